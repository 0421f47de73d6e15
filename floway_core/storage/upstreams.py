"""The configured upstreams."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee
from uuid6 import uuid7

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.storage.db import select, transaction, write
from floway_core.storage.tables import Upstreams

MAX_PREFIX_LENGTH = 100
MAX_NAME_LENGTH = 255


def add(database: peewee.Database, kind: str, name: str, prefix: str = "") -> Upstream:
    """Add an enabled upstream of provider ``kind`` at the end of the order.

    Call it inside the transaction that stores the plugin's own rows, if there are any.

    :param prefix: a word before the names of its models, with a slash: ``me/gpt-5.5``; empty for none.
    :raises GatewayError: 400, the name or the prefix is invalid; 409, the name is in use.
    """
    check_prefix(prefix)
    _check_name(name)
    with transaction(database):
        last = Upstreams.select(peewee.fn.MAX(Upstreams.position)).scalar(database)
        upstream = Upstream(f"up_{uuid7().hex}", kind, name, True, 1 if last is None else last + 1, prefix)
        try:
            Upstreams.insert(**vars(upstream), created_at=int(time.time())).execute(database)
        except peewee.IntegrityError:
            raise _name_in_use(name) from None
    return upstream


def all_rows(database: peewee.Database) -> list[Upstream]:
    """Return all upstreams in the order in which they are tried."""
    sql = "SELECT id, kind, name, enabled, position, prefix FROM upstreams ORDER BY position, id"
    return [from_row(row) for row in select(database, sql)]


@dataclass(frozen=True)
class Try:
    """The latest request to an upstream."""

    tried_at: int | None
    """Unix time in seconds, to the minute; None if there was none."""
    failure: str | None
    """The reason of its failure; None if it succeeded."""


NOT_TRIED = Try(None, None)


def last_tries(database: peewee.Database) -> dict[str, Try]:
    """Return the latest request to each upstream, by its id."""
    rows = select(database, "SELECT id, tried_at, failure FROM upstreams")
    return {row_id: Try(tried_at, failure or None) for row_id, tried_at, failure in rows}


def from_row(row: Sequence[Any]) -> Upstream:
    """Return the upstream in a row: id, kind, name, enabled, position, prefix."""
    row_id, kind, name, enabled, position, prefix = row
    return Upstream(row_id, kind, name, bool(enabled), position, prefix)


def find(database: peewee.Database, name: str) -> Upstream:
    """Return the upstream with this name.

    :raises GatewayError: 404, there is none.
    """
    upstream = next((row for row in all_rows(database) if row.name == name), None)
    if upstream is None:
        raise unknown(name)
    return upstream


def change(
    database: peewee.Database,
    name: str,
    *,
    new_name: str | None = None,
    enabled: bool | None = None,
    prefix: str | None = None,
    place: int | None = None,
) -> None:
    """Change an upstream in one transaction, with effect from the next request.

    :param new_name: its new name. Keys and aliases refer to it by its id, and stay valid.
    :param enabled: whether requests may use it.
    :param prefix: a word before the names of its models; empty for none.
    :param place: its new position in the order, from 1; the others move up or down.
    :raises GatewayError: 400, the new name or the prefix is invalid; 404, no upstream has this name; 409, the new name
        is in use.
    """
    with transaction(database):
        if place is not None:
            _lock_order(database)
        upstream = find(database, name)
        changes: dict[str, Any] = {} if enabled is None else {"enabled": enabled}
        if prefix is not None:
            check_prefix(prefix)
            changes["prefix"] = prefix
        if new_name is not None:
            _check_name(new_name)
            changes["name"] = new_name
        if changes:
            _update(database, upstream, changes)
        if place is not None:
            _move(database, upstream, place)


def _update(database: peewee.Database, upstream: Upstream, changes: dict[str, Any]) -> None:
    try:
        Upstreams.update(changes).where(Upstreams.id == upstream.id).execute(database)
    except peewee.IntegrityError:
        raise _name_in_use(changes["name"]) from None


def _lock_order(database: peewee.Database) -> None:
    """Prevent concurrent changes of the order until the transaction ends."""
    if database.for_update:  # SQLite locks the whole database
        list(Upstreams.select(Upstreams.id).order_by(Upstreams.id).for_update().execute(database))


def _move(database: peewee.Database, upstream: Upstream, place: int) -> None:
    rows = [row for row in all_rows(database) if row.id != upstream.id]
    rows.insert(place - 1, upstream)
    for position, row in enumerate(rows, 1):
        Upstreams.update(position=position).where(Upstreams.id == row.id).execute(database)


def remove(database: peewee.Database, name: str) -> None:
    """Remove an upstream and the rows of its plugin that refer to it.

    :raises GatewayError: 404, no upstream has this name.
    """
    if not write(database, "DELETE FROM upstreams WHERE name = ? RETURNING 1", name):
        raise unknown(name)


def check_prefix(prefix: str) -> None:
    """Check a prefix of model names.

    :raises GatewayError: 400, it is invalid.
    """
    if prefix and not (re.fullmatch(r"[\w.:-]+(/[\w.:-]+)*", prefix) and len(prefix) <= MAX_PREFIX_LENGTH):
        raise GatewayError(400, "A prefix has letters, digits and . : _ - / only.", param="prefix")


def _check_name(name: str) -> None:
    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME_LENGTH):
        message = f"The name of an upstream is a short printable text, unlike {name[:40]!r}."
        raise GatewayError(400, message, param="name")


def _name_in_use(name: str) -> GatewayError:
    return GatewayError(409, f"There is already an upstream named {name!r}.", param="name")


def unknown(name: str) -> GatewayError:
    """Return the 404 for an upstream that does not exist."""
    return GatewayError(404, f"There is no upstream named {name!r}.", param="name")
