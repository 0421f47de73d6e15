"""Leases of running turns, which show whether the worker of a turn is still alive.

Their times are those of the database, so that hosts whose clocks differ do not take each other for dead.
"""

import peewee

from floway_core.storage import limits
from floway_core.storage.db import execute, has_just_failed, select, transaction
from floway_core.storage.limits import ABANDONED_AFTER_SECONDS, CLOCK_SKEW_SECONDS, LEASE_SECONDS

TABLE = "turn_leases"

RECOVERY_SECONDS = 5.0
"""Time after a failure of the database in which all workers renew their leases."""


def insert(database: peewee.Database, api_key_id: str, response_id: str) -> None:
    """Store a new lease, which its worker must renew. Part of a transaction.

    :param response_id: the id of the response that the turn creates, or another id of the turn.
    :raises peewee.IntegrityError: the key has been deleted.
    """
    sql = f"INSERT INTO {TABLE} (id, api_key_id, expires_at) VALUES (?, ?, {_now(database)} + {LEASE_SECONDS})"
    execute(database, sql, response_id, api_key_id)


def renew(database: peewee.Database, ids: list[str]) -> None:
    """Extend leases by ``LEASE_SECONDS`` from now."""
    limits.renew(database, ids, TABLE, f"{_now(database)} + {LEASE_SECONDS}")


def alive(database: peewee.Database) -> str:
    """Return the SQL condition for the lease of a running turn.

    If the database has just failed, so have renewals, and expired leases are taken for alive.
    """
    now = _now(database)
    oldest = f"{now} - {ABANDONED_AFTER_SECONDS}" if has_just_failed(database, RECOVERY_SECONDS) else now
    # A clock that jumped back must not make a lease last for long.
    return f"expires_at > {oldest} AND expires_at <= {now} + {LEASE_SECONDS + CLOCK_SKEW_SECONDS}"


def is_alive(database: peewee.Database, response_id: str) -> bool:
    """Return whether the turn that creates this response is running."""
    return bool(select(database, f"SELECT 1 FROM {TABLE} WHERE id = ? AND {alive(database)}", response_id))


def delete(database: peewee.Database, response_id: str) -> None:
    """Delete a lease. Part of a transaction."""
    execute(database, f"DELETE FROM {TABLE} WHERE id = ?", response_id)


def delete_all(database: peewee.Database, ids: list[str]) -> None:
    """Delete leases, as far as they exist."""
    limits.delete_leases(database, ids, TABLE)


def sweep(database: peewee.Database) -> None:
    """Delete the leases of turns whose workers died long ago."""
    with transaction(database):
        execute(database, f"DELETE FROM {TABLE} WHERE expires_at < {_now(database)} - {ABANDONED_AFTER_SECONDS}")


def _now(database: peewee.Database) -> str:
    """Return the SQL for the current Unix time in seconds."""
    if database.for_update:  # PostgreSQL
        return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)"
    return "CAST(strftime('%s', 'now') AS INTEGER)"
