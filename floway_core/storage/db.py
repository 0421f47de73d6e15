"""The database connection: SQLite or PostgreSQL, pooled per process.

With ``postgresql``, this file alone uses private names of peewee and its pool; its stubs do not have them.
"""

import contextlib
import math
import os
import secrets
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import peewee
from playhouse import db_url
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase, PooledSqliteDatabase

from floway_core.settings import SettingsError
from floway_core.storage.postgresql import PostgresqlPool

# With the write-ahead log (see ``migrate``) and "normal" synchronisation, a process that dies loses nothing. A power
# cut may lose the last commits, but never damages the file.
SQLITE_PRAGMAS = {"synchronous": "normal", "foreign_keys": 1}

POOL = {
    "max_connections": 32,  # a thread holds one for a query only, so few serve many threads
    "stale_timeout": 300,  # seconds after which an idle connection is closed
}

DEFAULT_TIMEOUT_SECONDS = 10.0

Row = tuple[Any, ...]

FAILED_ROLLBACKS = ("no transaction is active", "connection already closed")
"""How the messages of an error end that comes after the one that matters."""

DATABASE_ERRORS = (peewee.PeeweeException, MaxConnectionsExceeded)
"""Exceptions of a query when the database fails; the second one when no connection becomes free in time."""


def connect(url: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> peewee.Database:
    """Return a database for ``url``. It opens no connection before the first ``connection_context()``.

    :param timeout: seconds to wait for a lock, for a free connection, and for a server that does not answer.
    :raises SettingsError: the URL cannot be used.
    """
    pool = {**POOL, "timeout": timeout}
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest.startswith("/") and ":memory:" not in rest:
        return _sqlite(rest.removeprefix("/"), timeout)
    if scheme in ("postgres", "postgresql"):
        limits = {
            "connect_timeout": max(2, math.ceil(timeout / 2)),  # seconds; for each address of the server
            "keepalives_idle": 30,  # seconds
            "keepalives_interval": 10,  # seconds
            "keepalives_count": 3,
            "tcp_user_timeout": int(timeout * 1000),  # milliseconds
        }
        try:
            target = db_url.parse(f"postgresql://{rest}", unquote_user=True, unquote_password=True)
            if not target["database"]:
                raise ValueError("no name")
            database = PostgresqlPool(**{**limits, **target, **pool}, autoconnect=False)
        except (ValueError, peewee.ImproperlyConfigured) as error:
            raise SettingsError(f"FLOWAY_DATABASE_URL cannot be used: {type(error).__name__}.") from None
        database.time_limit = timeout
        return database
    raise SettingsError("FLOWAY_DATABASE_URL is not sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.")


def in_memory() -> peewee.Database:
    """Return an empty SQLite database without a file. It is gone when its last connection closes."""
    return _sqlite(f"file:{secrets.token_hex(8)}?mode=memory&cache=shared", DEFAULT_TIMEOUT_SECONDS, uri=True)


def _sqlite(name: str, timeout: float, **options: Any) -> "_Sqlite":
    database = _Sqlite(
        name,
        **{**POOL, "timeout": math.ceil(timeout)},
        autoconnect=False,
        check_same_thread=False,  # the pool lends a connection to one thread at a time
        factory=_SqliteConnection,
        pragmas={**SQLITE_PRAGMAS, "busy_timeout": int(timeout * 1000)},
        **options,
    )
    database.writer_timeout = timeout
    return database


class _SqliteConnection(sqlite3.Connection):
    file: tuple[int, int] | None = None
    """Device and inode of the file that it has open."""


class _Sqlite(PooledSqliteDatabase):
    """Detects that its file has been moved, deleted or replaced: an open connection would go on with the old file, and
    what it stores there would be lost."""

    writer_timeout: float
    """Seconds to wait for other writers."""

    _file: tuple[int, int] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.write_lock = threading.RLock()
        self._reader_lock = threading.Lock()
        self._reader: _SqliteConnection | None = None

    def read_fast_path(self, sql: str, parameters: Sequence[Any]) -> list[Row] | None:
        """Run a query outside of any transaction, on a connection that is reserved for such queries.

        Borrowing a connection from the pool takes longer than most queries.

        :returns: the rows; None if the connection is in use, if a transaction is open, or if there are query hooks.
        """
        if not self.is_closed() or self.query_hooks or not self._reader_lock.acquire(blocking=False):
            return None
        try:
            with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
                return self._open_reader().execute(sql, parameters).fetchall()
        except peewee.PeeweeException:
            self._close_reader()  # the connection may be broken
            raise
        finally:
            self._reader_lock.release()

    def _open_reader(self) -> _SqliteConnection:
        if self._reader and self._reader.file == _identify(self.database):
            return self._reader
        self._close_reader()
        with self._pool_lock:
            self._update_file()
            reader: _SqliteConnection = peewee.SqliteDatabase._connect(self)  # type: ignore[attr-defined]
        reader.execute("PRAGMA query_only = 1")  # writers need the write lock
        self._reader = reader
        return reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close_all(self) -> None:
        with self._reader_lock:
            self._close_reader()
        super().close_all()  # type: ignore[no-untyped-call]

    def _connect(self) -> sqlite3.Connection:
        with self._pool_lock:
            self._update_file()
            connection: sqlite3.Connection = super()._connect()
            return connection

    def _update_file(self) -> None:
        """:raises peewee.OperationalError: the file is gone."""
        before, self._file = self._file, _identify(self.database)
        if before and not self._file:
            self._file = before
            raise peewee.OperationalError("the database file is gone")

    def _add_conn_hooks(self, conn: _SqliteConnection) -> None:
        conn.file = self._file = _identify(self.database)
        super()._add_conn_hooks(conn)  # type: ignore[misc]

    def _is_closed(self, conn: _SqliteConnection) -> bool:
        return conn.file != self._file or bool(super()._is_closed(conn))  # type: ignore[no-untyped-call]


def _identify(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def limited_time(database: peewee.Database, seconds: float) -> Iterator[None]:
    """Limit the time that this thread may wait for PostgreSQL, all in all, within the block.

    SQLite has no server that could be away, and readers do not wait for its lock.

    :param seconds: ``math.inf`` lifts all limits, also the usual ones.
    """
    if isinstance(database, PostgresqlPool):
        with database.limited_time(seconds):
            yield
    else:
        yield


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
    return database.execute_sql(sql.replace("?", database.param), parameters)


def select(database: peewee.Database, sql: str, *parameters: Any) -> list[Row]:
    """Run an SQL statement that only reads; return its rows. Opens a connection if there is none.

    :param sql: with ``?`` for parameters.
    """
    if isinstance(database, _Sqlite) and (rows := database.read_fast_path(sql, parameters)) is not None:
        return rows
    with database.connection_context():
        return _fetch_all(database, sql, parameters)


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


def placeholders(values: Collection[Any]) -> str:
    """Return ``?, ?, ...``, one for each of ``values``."""
    return ", ".join("?" * len(values))


def insert(database: peewee.Database, table: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows that all have the same columns; return their ids."""
    marks = f"({placeholders(rows[0])})"
    sql = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES {', '.join([marks] * len(rows))} RETURNING id"
    return [row_id for (row_id,) in _fetch_all(database, sql, [value for row in rows for value in row.values()])]


def write(database: peewee.Database, sql: str, *parameters: Any) -> list[Row]:
    """Run one SQL statement that writes; return its rows.

    It joins an open transaction, and commits by itself otherwise, which is faster than a transaction around it.

    :param sql: with ``?`` for parameters, and ``RETURNING``.
    """
    with _write_connection(database):
        return _fetch_all(database, sql, parameters)


@contextlib.contextmanager
def transaction(database: peewee.Database, *, is_durable: bool = False) -> Iterator[None]:
    """A transaction that writes, on its own connection. A nested one joins the outer one.

    Do not hold another connection when it begins: the current writer may be waiting for that one.

    On SQLite it takes the write lock at once (``IMMEDIATE``), because a transaction that begins with a read may fail to
    get the lock later.

    :param is_durable: whether the commit has to survive a power cut. Such a transaction joins no other one.
    """
    kind = ("IMMEDIATE",) if isinstance(database, _Sqlite) else ()
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
    if not isinstance(database, _Sqlite):
        yield
        return
    execute(database, "PRAGMA synchronous = full")
    try:
        yield
    finally:
        execute(database, f"PRAGMA synchronous = {SQLITE_PRAGMAS['synchronous']}")


@contextlib.contextmanager
def _write_connection(database: peewee.Database) -> Iterator[None]:
    """A connection for writing.

    SQLite has one writer at a time, and waits for the lock by polling every 100 milliseconds. So threads wait for
    ``write_lock`` here, before they take a connection from the pool.
    """
    if not isinstance(database, _Sqlite):
        with database.connection_context():
            yield
    elif database.write_lock.acquire(timeout=database.writer_timeout):
        try:
            with database.connection_context():
                yield
        finally:
            database.write_lock.release()
    else:
        raise peewee.OperationalError("database is locked")
