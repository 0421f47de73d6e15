"""The database connection: SQLite or PostgreSQL, pooled per process."""

from collections.abc import Mapping, Sequence
from typing import Any

import peewee
from playhouse import db_url
from playhouse.pool import PooledSqliteDatabase

from floway_core.config import SettingsError

# With the write-ahead log (see ``migrate``), "normal" syncs lose nothing when a process dies; a power cut may lose the
# last commits but never damages the file.
SQLITE_PRAGMAS = {"synchronous": "normal", "foreign_keys": 1, "busy_timeout": 10_000}

# A server that does not answer must not hold a thread, or the pool, for ever. Seconds; the last one milliseconds.
POSTGRESQL = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 10_000}

POOL = {
    "max_connections": 32,  # held for single queries only, so few serve many threads
    "timeout": 10,  # seconds to wait for one of them
    "stale_timeout": 300,  # seconds after which an idle one is closed
}


def connect(url: str) -> peewee.Database:
    """A database for ``url``; nothing is opened before the first ``connection_context()``.

    :raises SettingsError: the URL is not usable.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest.startswith("/") and ":memory:" not in rest:
        return PooledSqliteDatabase(
            rest.removeprefix("/"),
            **POOL,
            autoconnect=False,
            check_same_thread=False,  # the pool hands a connection from thread to thread, never to two at once
            pragmas=SQLITE_PRAGMAS,
        )
    if scheme in ("postgres", "postgresql"):
        try:
            return db_url.connect(
                f"postgresql+pool://{rest}",
                unquote_user=True,
                unquote_password=True,
                **POOL,
                **{name: value for name, value in POSTGRESQL.items() if f"{name}=" not in rest},
                autoconnect=False,
            )
        except (ValueError, peewee.ImproperlyConfigured) as error:
            raise SettingsError(f"FLOWAY_DATABASE_URL cannot be used: {type(error).__name__}.") from None
    raise SettingsError("FLOWAY_DATABASE_URL is not sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.")


def run(database: peewee.Database, sql: str, *parameters: Any) -> Any:
    """Run a statement that is written as SQL, with ``?`` for parameters, on the connection that is open.

    For what every request does: there, building the SQL from a query object takes longer than running it.

    :returns: the driver's cursor.
    """
    return database.execute_sql(sql.replace("?", database.param), parameters)


def select(database: peewee.Database, sql: str, *parameters: Any) -> list[tuple]:
    """The rows of a statement, as ``run`` takes it. Opens a connection if there is none."""
    with database.connection_context():
        return run(database, sql, *parameters).fetchall()


def insert(database: peewee.Database, table: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows that all have the same columns, and return their ids."""
    row = f"({', '.join('?' * len(rows[0]))})"
    sql = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES {', '.join([row] * len(rows))} RETURNING id"
    return [row_id for (row_id,) in run(database, sql, *(value for row in rows for value in row.values())).fetchall()]


def transaction(database: peewee.Database) -> Any:
    """A transaction that writes. SQLite is told at once: one that begins by reading may find itself locked out."""
    return database.atomic("IMMEDIATE") if isinstance(database, peewee.SqliteDatabase) else database.atomic()
