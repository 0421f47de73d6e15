"""Leases of running turns, which show whether the worker of a turn is still alive."""

import time

import peewee

from floway_core.storage.db import execute, select, transaction
from floway_core.storage.limits import ABANDONED_AFTER_SECONDS, CLOCK_SKEW_SECONDS, LEASE_SECONDS

TABLE = "turn_leases"


def insert(database: peewee.Database, api_key_id: str, response_id: str) -> None:
    """Store a new lease, which its worker must renew. Part of a transaction.

    :param response_id: the id of the response that the turn creates, or another id of the turn.
    :raises peewee.IntegrityError: the key has been deleted.
    """
    sql = f"INSERT INTO {TABLE} (id, api_key_id, expires_at) VALUES (?, ?, ?)"
    execute(database, sql, response_id, api_key_id, int(time.time()) + LEASE_SECONDS)


IS_ALIVE = "expires_at > ? AND expires_at <= ?"
"""The condition for the lease of a running turn; see ``lifetime``."""


def lifetime() -> tuple[int, int]:
    """Return the parameters of ``IS_ALIVE``."""
    now = int(time.time())
    return now, now + LEASE_SECONDS + CLOCK_SKEW_SECONDS  # a clock that jumped back must not make a lease last for long


def is_alive(database: peewee.Database, response_id: str) -> bool:
    """Return whether the turn that creates this response is running."""
    return bool(select(database, f"SELECT 1 FROM {TABLE} WHERE id = ? AND {IS_ALIVE}", response_id, *lifetime()))


def delete(database: peewee.Database, response_id: str) -> None:
    """Delete a lease. Part of a transaction."""
    execute(database, f"DELETE FROM {TABLE} WHERE id = ?", response_id)


def sweep(database: peewee.Database) -> None:
    """Delete the leases of turns whose workers died long ago."""
    with transaction(database):
        execute(database, f"DELETE FROM {TABLE} WHERE expires_at < ?", int(time.time()) - ABANDONED_AFTER_SECONDS)
