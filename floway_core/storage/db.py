"""Queries and transactions on SQLite and PostgreSQL."""

import contextlib
import functools
import itertools
import math
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import peewee
from playhouse import db_url
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase, PooledSqliteDatabase

from floway_core.storage.postgresql import PostgresqlPool
from floway_core.storage.sqlite import SQLITE_PRAGMAS, SqlitePool, open_sqlite

POOL = {
    "max_connections": 32,  # a thread holds one only during a query, so few serve many threads
    "stale_timeout": 300,  # seconds after which an idle connection is closed
}

DEFAULT_TIMEOUT_SECONDS = 10.0

SQLITE_BATCHES = (64, 32, 16)
"""Rows of an INSERT of many rows, the most first. SQLite takes as long to prepare a statement as to run it, and a
connection keeps the statements that it has used last, so a few are used again and again."""

POSTGRESQL_BATCH = 100
"""Rows of an INSERT of many rows. PostgreSQL prepares each statement anyway, and each is a round trip."""

Row = tuple[Any, ...]

FAILED_ROLLBACKS = ("no transaction is active", "connection already closed")
"""Ends of messages of errors that follow and hide the original error."""

DATABASE_ERRORS = (peewee.PeeweeException, MaxConnectionsExceeded)
"""Exceptions of a query when the database fails; the second one when no connection becomes free in time."""


def connect(url: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> peewee.Database:
    """Return a database. It opens no connection before the first ``connection_context()``.

    :param url: of the form that ``settings.database_url`` accepts.
    :param timeout: seconds to wait for a lock, for a free connection, and for a server that does not answer.
    """
    pool = {**POOL, "timeout": timeout}
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return open_sqlite(rest.removeprefix("/"), timeout, POOL)
    limits = {
        "connect_timeout": max(2, math.ceil(timeout / 2)),  # seconds; for each address of the server
        "keepalives_idle": 30,  # seconds
        "keepalives_interval": 10,  # seconds
        "keepalives_count": 3,
        "tcp_user_timeout": int(timeout * 1000),  # milliseconds
    }
    target = db_url.parse(f"postgresql://{rest}", unquote_user=True, unquote_password=True)
    database = PostgresqlPool(**{**limits, **target, **pool}, autoconnect=False)
    database.time_limit = timeout
    return database


def in_memory() -> peewee.Database:
    """Return an empty SQLite database without a file. It vanishes when its last connection closes."""
    return open_sqlite(f"file:{secrets.token_hex(8)}?mode=memory&cache=shared", DEFAULT_TIMEOUT_SECONDS, POOL, uri=True)


def limited_time(database: peewee.Database, seconds: float) -> AbstractContextManager[None]:
    """Limit the total time that this thread may wait for PostgreSQL within the block.

    SQLite has no server that could be unreachable, and readers do not wait for its lock.

    :param seconds: ``math.inf`` lifts all limits, also the usual ones.
    """
    return database.limited_time(seconds) if isinstance(database, PostgresqlPool) else contextlib.nullcontext()


def has_just_failed(database: peewee.Database, seconds: float) -> bool:
    """Return whether PostgreSQL may have failed less than so many seconds ago, as far as this process knows.

    A query that waits for a silent server until it answers again tells nothing, so that its time does not count.
    """
    if not isinstance(database, PostgresqlPool):
        return False
    return time.monotonic() - database.failed_at < seconds + database.time_limit


def close_connections(database: peewee.Database) -> None:
    """Close all connections of the pool. Both kinds of database that ``connect`` returns have one."""
    if isinstance(database, PooledSqliteDatabase | PooledPostgresqlDatabase):
        database.close_all()  # type: ignore[no-untyped-call]  # the stubs of playhouse have no annotations


def execute(database: peewee.Database, sql: str, *parameters: Any) -> Any:
    """Run an SQL statement on the open connection.

    For statements of every request, because building SQL from a query object takes longer than running it.

    :param sql: with ``?`` for parameters.
    :returns: the driver's cursor.
    """
    return database.execute_sql(sql if database.param == "?" else sql.replace("?", database.param), parameters)


def select(database: peewee.Database, sql: str, *parameters: Any) -> list[Row]:
    """Run an SQL statement that only reads; return its rows. Opens a connection if there is none.

    :param sql: with ``?`` for parameters.
    """
    if not database.is_closed():  # whoever has opened the connection closes it
        return _fetch_all(database, sql, parameters)
    if isinstance(database, SqlitePool) and (rows := database.read_fast_path(sql, parameters)) is not None:
        return rows
    with database.connection_context():
        return _fetch_all(database, sql, parameters)


def reading(database: peewee.Database) -> AbstractContextManager[None]:
    """Let this thread run several queries one after the other, on one connection.

    On SQLite each query is faster without: see ``SqlitePool.read_fast_path``.
    """
    return contextlib.nullcontext() if isinstance(database, SqlitePool) else database.connection_context()


def _fetch_all(database: peewee.Database, sql: str, parameters: Sequence[Any]) -> list[Row]:
    rows: list[Row] = execute(database, sql, *parameters).fetchall()
    return rows


def lock_row(database: peewee.Database, table: str, row_id: str) -> None:
    """Protect a row from deletion until the transaction ends.

    Call it first in the transaction. A deletion locks the row before the rows that refer to it, so the same order
    avoids deadlocks.
    """
    if database.for_update:  # SQLite locks the whole database
        execute(database, f"SELECT 1 FROM {table} WHERE id = ? FOR KEY SHARE", row_id)


def storable_text(text: str, max_length: int) -> str:
    """Return a text in a form that a text column can store: PostgreSQL stores no NUL, and no database lone surrogates.

    :param max_length: characters; the rest is cut off.
    """
    return text[:max_length].encode(errors="replace").decode().replace("\0", "")


def placeholders(values: Collection[Any]) -> str:
    """Return ``?, ?, ...``, one for each of ``values``."""
    return ", ".join("?" * len(values))


def padded(database: peewee.Database, values: Sequence[Any]) -> Sequence[Any]:
    """Return values for an ``IN (...)`` of many lengths; on SQLite, with the last one repeated up to a power of two.

    So there are few statements to prepare: see ``SQLITE_BATCHES``.

    :param values: at least one.
    """
    if not isinstance(database, SqlitePool):
        return values
    missing = (1 << (len(values) - 1).bit_length()) - len(values)
    return [*values, *[values[-1]] * missing]


def insert(database: peewee.Database, table: str, row: Mapping[str, Any]) -> int:
    """Insert a row into a table with generated ids; return its id."""
    sql = _insertion(table, tuple(row), 1)
    if isinstance(database, SqlitePool):  # SQLite collects what RETURNING returns in a table
        row_id: int = execute(database, sql, *row.values()).lastrowid
    else:
        ((row_id,),) = _fetch_all(database, f"{sql} RETURNING id", tuple(row.values()))
    return row_id


def insert_all(database: peewee.Database, table: str, columns: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows, many with one statement. Part of a transaction.

    :param rows: the values of ``columns``.
    """
    start = 0
    while start < len(rows):
        batch = rows[start : start + _batch_size(database, len(rows) - start)]
        execute(database, _insertion(table, columns, len(batch)), *itertools.chain.from_iterable(batch))
        start += len(batch)


def _batch_size(database: peewee.Database, count: int) -> int:
    """Return how many of ``count`` rows the next INSERT contains."""
    if not isinstance(database, SqlitePool):
        return POSTGRESQL_BATCH
    return next((size for size in SQLITE_BATCHES if size <= count), count)


@functools.lru_cache(maxsize=256)
def _insertion(table: str, columns: tuple[str, ...], count: int) -> str:
    """Return the statement that inserts so many rows."""
    marks = f"({placeholders(columns)})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([marks] * count)}"


def write(database: peewee.Database, sql: str, *parameters: Any) -> list[Row]:
    """Run one SQL statement that writes; return its rows.

    It joins an open transaction. Otherwise it commits by itself, which is faster than a transaction around it.

    :param sql: with ``?`` for parameters, and ``RETURNING``.
    """
    if database.in_transaction():
        return _fetch_all(database, sql, parameters)
    with _write_connection(database):
        return _fetch_all(database, sql, parameters)


def transaction(database: peewee.Database, *, is_durable: bool = False) -> AbstractContextManager[None]:
    """A transaction that writes, on its own connection. A nested one joins the outer one.

    Do not hold another connection when it starts: the current writer may be waiting for it.

    On SQLite it takes the write lock at once (``IMMEDIATE``), because a transaction that begins with a read may fail to
    get the lock later.

    :param is_durable: whether the commit must survive a power cut. Such a transaction cannot be nested.
    """
    own = database.own_transaction() if isinstance(database, SqlitePool) and not is_durable else None
    return own or _peewee_transaction(database, is_durable)


@contextlib.contextmanager
def _peewee_transaction(database: peewee.Database, is_durable: bool) -> Iterator[None]:
    kind = ("IMMEDIATE",) if isinstance(database, SqlitePool) else ()
    durability = _synchronous_commits(database) if is_durable else contextlib.nullcontext()
    with _write_connection(database), durability, _original_errors(), database.atomic(*kind):
        yield


@contextlib.contextmanager
def _original_errors() -> Iterator[None]:
    """Raise the error that ended a transaction. peewee's attempt to roll back fails and hides it when SQLite has rolled
    back by itself, because the disk is full, or when the connection is closed, because its server did not answer."""
    try:
        yield
    except peewee.PeeweeException as error:
        hidden = error.__context__
        while str(error).endswith(FAILED_ROLLBACKS) and hidden is not None:
            if isinstance(hidden, peewee.PeeweeException) and not str(hidden).endswith(FAILED_ROLLBACKS):
                raise hidden from None
            hidden = hidden.__context__
        raise


@contextlib.contextmanager
def _synchronous_commits(database: peewee.Database) -> Iterator[None]:
    """Make commits on the open connection wait until they are on disk. PostgreSQL always waits."""
    if not isinstance(database, SqlitePool):
        yield
        return
    execute(database, "PRAGMA synchronous = full")
    try:
        yield
    finally:
        execute(database, f"PRAGMA synchronous = {SQLITE_PRAGMAS['synchronous']}")


def _write_connection(database: peewee.Database) -> AbstractContextManager[None]:
    """A connection for writing."""
    return database.writing() if isinstance(database, SqlitePool) else database.connection_context()
