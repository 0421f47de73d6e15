"""API keys: created, listed, revoked, recognised."""

import hashlib
import secrets
import time
from dataclasses import dataclass

import peewee
from uuid6 import uuid7

from floway_core.contexts import ApiKey
from floway_core.db import select
from floway_core.errors import GatewayError
from floway_core.models import ApiKeys

PREFIX = "sk-floway-"
LONGEST_NAME = 100


@dataclass(frozen=True)
class KeyRow:
    """An API key as it is listed. Times are Unix seconds."""

    id: str
    name: str
    hint: str
    created_at: int
    revoked_at: int | None


def create(database: peewee.Database, name: str) -> str:
    """Store a new key under ``name`` and return it. It cannot be had again: only its hash is kept.

    :raises GatewayError: 400, the name is unusable; 409, it is taken.
    """
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise GatewayError(400, f"The name of a key is a short printable text, unlike {name[:40]!r}.", param="name")
    key = PREFIX + secrets.token_urlsafe(32)
    row = {
        "id": f"key_{uuid7().hex}",
        "name": name,
        "key_hash": _hash(key),
        "hint": "..." + key[-4:],
        "created_at": int(time.time()),
    }
    with database.connection_context():
        try:
            ApiKeys.insert(row).execute(database)
        except peewee.IntegrityError:
            raise GatewayError(
                409, f"There is already an API key named {name!r}, perhaps a revoked one.", param="name"
            ) from None
    return key


def all_rows(database: peewee.Database) -> list[KeyRow]:
    """Every key, oldest first, revoked ones too."""
    with database.connection_context():
        return [
            KeyRow(row.id, row.name, row.hint, row.created_at, row.revoked_at)
            for row in ApiKeys.select().order_by(ApiKeys.created_at, ApiKeys.id).execute(database)
        ]


def revoke(database: peewee.Database, name: str) -> None:
    """Refuse the key from the next request on. Revoking twice changes nothing.

    :raises GatewayError: 404, no key has this name.
    """
    with database.connection_context():
        named = ApiKeys.name == name
        changed = ApiKeys.update(revoked_at=int(time.time())).where(named, ApiKeys.revoked_at.is_null())
        if not changed.execute(database) and not ApiKeys.select().where(named).exists(database):
            raise GatewayError(404, f"There is no API key named {name!r}.", param="name")


def delete(database: peewee.Database, name: str) -> None:
    """Remove the key, and with it every conversation it has stored.

    :raises GatewayError: 404, no key has this name.
    """
    with database.connection_context():
        if not ApiKeys.delete().where(ApiKeys.name == name).execute(database):
            raise GatewayError(404, f"There is no API key named {name!r}.", param="name")


def recognise(database: peewee.Database, key: str) -> ApiKey | None:
    """The API key that ``key`` is, or None when it is unknown or revoked."""
    rows = select(database, "SELECT id, name FROM api_keys WHERE key_hash = ? AND revoked_at IS NULL", _hash(key))
    return ApiKey(*rows[0]) if rows else None


def _hash(key: str) -> str:
    # A key holds 256 random bits: a slow password hash would protect nothing and cost every request.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
