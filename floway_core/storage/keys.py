"""API keys: create, change, list, revoke, delete and recognise them."""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import peewee
from uuid6 import uuid7

from floway_core.contexts import NO_LIMITS, ApiKey, Budget, Limits
from floway_core.errors import GatewayError
from floway_core.storage import budgets, upstreams
from floway_core.storage.budget_options import SpentUsd, budget_fields, to_spent_usd
from floway_core.storage.budgets import Spent
from floway_core.storage.configuration import configuration_of
from floway_core.storage.db import execute, select, transaction, write
from floway_core.storage.disk_reserve import delete_despite_full_disk
from floway_core.storage.key_options import Options, is_name, to_columns
from floway_core.storage.stepwise import delete_in_steps
from floway_core.storage.tables import ApiKeys

PREFIX = "sk-floway-"

RANDOM_BYTES = 32

KEY_LENGTH = len(PREFIX) + len(secrets.token_urlsafe(RANDOM_BYTES))


@dataclass(frozen=True)
class KeyRow:
    """An API key in a list. Times are Unix seconds. None means: does not expire, may use all, has no limit."""

    id: str
    name: str
    hint: str
    created_at: int
    revoked_at: int | None
    expires_at: int | None
    models: list[str] | None
    upstreams: list[str] | None
    """Names; an upstream that has been removed is shown by its id."""
    requests_per_minute: int | None
    concurrent_requests: int | None
    tokens_per_day: int | None
    max_stored_bytes: int | None
    last_used_at: int | None
    """To the minute; None if it was never used, or only before last uses were recorded."""
    shows_account: bool
    group: str | None
    """Name of the group whose budget it shares."""
    usd_per_day: float | None
    usd_per_month: float | None
    allows_unpriced: bool
    spent: SpentUsd | None
    """What it has spent; None if it has no budget of its own, so that this is not counted."""


def create(database: peewee.Database, name: str, options: Options | None = None) -> str:
    """Create a key and return it. It cannot be read again, because only its hash is stored.

    :raises GatewayError: 400, the name or an option is invalid; 409, the name is in use.
    """
    if not is_name(name):
        raise GatewayError(
            400, f"The name of a key is a short printable text, unlike {str(name)[:40]!r}.", param="name"
        )
    key = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    row = {
        "id": f"key_{uuid7().hex}",
        "name": name,
        "key_hash": _hash(key),
        "hint": "..." + key[-4:],
        "created_at": int(time.time()),
    }
    with transaction(database):
        try:
            ApiKeys.insert({**row, **to_columns(database, options or {})}).execute(database)
        except peewee.IntegrityError:
            raise GatewayError(
                409, f"There is already an API key named {name!r}, perhaps a revoked one.", param="name"
            ) from None
    return key


def change(database: peewee.Database, name: str, options: Options) -> None:
    """Change options of a key, with effect from the next request.

    :raises GatewayError: 400, an option is invalid; 404, no key has this name.
    """
    with transaction(database):
        # without changes, this still checks that the key exists
        changes = to_columns(database, options) or {"name": name}
        if changes.get("day_budget") or changes.get("month_budget"):
            _begin_budget(database, name)
        if not ApiKeys.update(changes).where(ApiKeys.name == name).execute(database):
            raise _unknown(name)


def _begin_budget(database: peewee.Database, name: str) -> None:
    """Count what a key without a budget has spent, because it gets one, within the open transaction."""
    sql = "SELECT id, created_at FROM api_keys WHERE name = ? AND day_budget IS NULL AND month_budget IS NULL"
    lock = " FOR UPDATE" if database.for_update else ""
    for key_id, created_at in execute(database, sql + lock, name).fetchall():
        budgets.begin(database, key_id, name, created_at)


def all_rows(database: peewee.Database) -> list[KeyRow]:
    """Return all keys, including revoked ones, the oldest first."""
    with database.connection_context():
        names = {row.id: row.name for row in upstreams.all_rows(database)}
        joined = "SELECT k.id, g.name FROM api_keys AS k JOIN key_groups AS g ON g.id = k.group_id"
        groups: dict[str, str] = dict(select(database, joined))
        unordered = ApiKeys.select().where(ApiKeys.deleted_at.is_null())
        rows = list(unordered.order_by(ApiKeys.created_at, ApiKeys.id).execute(database))
        limited = [row.id for row in rows if row.day_budget or row.month_budget]
        spent = dict.fromkeys(limited, budgets.NOTHING) | budgets.read(database, limited)
        return [_to_key_row(row, names, groups.get(row.id), spent.get(row.id)) for row in rows]


def find(database: peewee.Database, name: str) -> KeyRow:
    """Return the key with this name.

    :raises GatewayError: 404, there is none.
    """
    row = next((row for row in all_rows(database) if row.name == name), None)
    if row is None:
        raise _unknown(name)
    return row


def revoke(database: peewee.Database, name: str) -> None:
    """Refuse the key from the next request on. Revoking it again changes nothing.

    :raises GatewayError: 404, no key has this name.
    """
    with transaction(database):
        named = ApiKeys.name == name
        changed = ApiKeys.update(revoked_at=int(time.time())).where(named, ApiKeys.revoked_at.is_null())
        if not changed.execute(database) and not ApiKeys.select().where(named).exists(database):
            raise _unknown(name)


def delete(database: peewee.Database, name: str) -> None:
    """Refuse the key from the next request on, and remove it with every conversation it has stored.

    Its name can be used again at once. If the process dies meanwhile, ``finish_deletions`` removes the rest.

    :raises GatewayError: 404, no key has this name.
    """
    rows = select(database, "SELECT id FROM api_keys WHERE name = ? AND deleted_at IS NULL", name)
    if not rows:
        raise _unknown(name)
    key_id: str = rows[0][0]

    def refuse() -> None:
        changes = "deleted_at = ?, name = ?, group_id = NULL WHERE id = ? AND deleted_at IS NULL"
        with transaction(database):
            execute(database, f"UPDATE api_keys SET {changes}", int(time.time()), f"deleted/{key_id}", key_id)

    delete_despite_full_disk(database, refuse)
    _delete_contents(database, key_id)


def finish_deletions(database: peewee.Database) -> None:
    """Remove the keys whose deletion was interrupted, and what deleted keys have spent."""
    for (key_id,) in select(database, "SELECT id FROM api_keys WHERE deleted_at IS NOT NULL"):
        _delete_contents(database, key_id)
    with transaction(database):
        budgets.forget(database)


_CONTENTS = (
    # Items first, because they are the largest part of a conversation.
    ("responses_items", "LENGTH(payload)", 500),
    ("responses_conversations", "0", 50),
    ("background_responses", "0", 20),
)
"""Tables with the contents of a key, the bytes of a row, and the rows that one transaction deletes at most."""


def _delete_contents(database: peewee.Database, key_id: str) -> None:
    """Remove a refused key with all its conversations."""
    for table, size, rows in _CONTENTS:
        delete_in_steps(database, table, "api_key_id = ?", key_id, size=size, rows=rows)
    sql = "DELETE FROM api_keys WHERE id = ? RETURNING 1"
    delete_despite_full_disk(database, partial(write, database, sql, key_id))


def recognise(database: peewee.Database, key: str) -> ApiKey | None:
    """Return the API key with the secret ``key``; None if it is unknown or revoked. It may have expired."""
    if len(key) != KEY_LENGTH or not key.startswith(PREFIX):
        return None  # a malformed key costs no query
    configuration, key_hash = configuration_of(database), _hash(key)
    configuration.refresh(database)
    return configuration.get((ApiKey, key_hash), partial(_read_valid, database, "key_hash", key_hash))


def recognise_name(database: peewee.Database, name: str) -> ApiKey | None:
    """Return the API key with this name; None if it is unknown or revoked. It may have expired."""
    return _read_valid(database, "name", name)


def _read_valid(database: peewee.Database, column: str, value: str) -> ApiKey | None:
    rows = select(
        database,
        "SELECT k.id, k.name, expires_at, models, upstreams, shows_account, max_stored_bytes, "
        "requests_per_minute, concurrent_requests, tokens_per_day, k.day_budget, k.month_budget, k.allows_unpriced, "
        "g.id, g.day_budget, g.month_budget, g.allows_unpriced "
        "FROM api_keys AS k LEFT JOIN key_groups AS g ON g.id = k.group_id "
        f"WHERE k.{column} = ? AND revoked_at IS NULL AND deleted_at IS NULL",
        value,
    )
    if not rows:
        return None
    row_id, name, expires_at, models, upstream_ids, shows_account, max_stored_bytes, *rest = rows[0]
    limits, own_budget, group_id, group_budget = rest[:3], rest[3:6], rest[6], rest[7:]
    return ApiKey(
        id=row_id,
        name=name,
        expires_at=expires_at,
        models=None if models is None else frozenset(json.loads(models)),
        upstreams=None if upstream_ids is None else frozenset(json.loads(upstream_ids)),
        limits=NO_LIMITS if limits == [None, None, None] else Limits(*limits),
        budgets=_to_budgets(row_id, own_budget, group_id, group_budget),
        max_stored_bytes=max_stored_bytes,
        shows_account=bool(shows_account),
    )


def _to_budgets(key_id: str, own: Sequence[Any], group_id: str | None, group: Sequence[Any]) -> tuple[Budget, ...]:
    """Return the budgets of a key.

    :param own, group: the columns of the key's budget, and of that of its group.
    """
    found = [Budget(key_id, False, own[0], own[1], bool(own[2]))] if own[0] or own[1] else []
    found += [Budget(group_id, True, group[0], group[1], bool(group[2]))] if group_id else []
    return tuple(found)


def _to_key_row(row: ApiKeys, upstream_names: Mapping[str, str], group: str | None, spent: Spent | None) -> KeyRow:
    ids = None if row.upstreams is None else json.loads(row.upstreams)
    return KeyRow(
        id=row.id,
        name=row.name,
        hint=row.hint,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        expires_at=row.expires_at,
        models=None if row.models is None else json.loads(row.models),
        upstreams=None if ids is None else [upstream_names.get(upstream, upstream) for upstream in ids],
        requests_per_minute=row.requests_per_minute,
        concurrent_requests=row.concurrent_requests,
        tokens_per_day=row.tokens_per_day,
        max_stored_bytes=row.max_stored_bytes,
        last_used_at=row.last_used_at,
        shows_account=bool(row.shows_account),
        group=group,
        **budget_fields(row),
        spent=None if spent is None else to_spent_usd(spent),
    )


def _unknown(name: str) -> GatewayError:
    return GatewayError(404, f"There is no API key named {name!r}.", param="name")


def _hash(key: str) -> str:
    # A key has 256 random bits, so a slow password hash would add no protection, and would slow every request.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
