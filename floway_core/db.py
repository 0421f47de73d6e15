"""The database connection: SQLite or PostgreSQL, pooled per process."""

from typing import Any

import peewee
from playhouse import db_url

from floway_core.config import SettingsError

# With the write-ahead log (see ``migrate``), "normal" syncs lose nothing when a process dies; a power cut may lose the
# last commits but never damages the file.
SQLITE_PRAGMAS = {"synchronous": "normal", "foreign_keys": 1, "busy_timeout": 10_000}

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
        return db_url.connect(
            f"sqlite+pool://{rest}",
            **POOL,
            autoconnect=False,
            check_same_thread=False,  # the pool hands a connection from thread to thread, never to two at once
            pragmas=SQLITE_PRAGMAS,
        )
    if scheme in ("postgres", "postgresql"):
        try:
            return db_url.connect(
                f"postgresql+pool://{rest}", unquote_user=True, unquote_password=True, **POOL, autoconnect=False
            )
        except (ValueError, peewee.ImproperlyConfigured) as error:
            raise SettingsError(f"FLOWAY_DATABASE_URL cannot be used: {type(error).__name__}.") from None
    raise SettingsError("FLOWAY_DATABASE_URL is not sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.")


def select(database: peewee.Database, sql: str, *parameters: Any) -> list[tuple]:
    """The rows of a statement that is written as SQL, with ``?`` for parameters.

    For what every request asks: there, building the SQL from a query object takes longer than running it.
    """
    with database.connection_context():
        return database.execute_sql(sql.replace("?", database.param), parameters).fetchall()


def transaction(database: peewee.Database) -> Any:
    """A transaction that writes. SQLite is told at once: one that begins by reading may find itself locked out."""
    return database.atomic("IMMEDIATE") if isinstance(database, peewee.SqliteDatabase) else database.atomic()
