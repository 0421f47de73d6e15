"""The database connection: SQLite or PostgreSQL, pooled per process."""

import contextlib
import math
import os
import secrets
import select as descriptors
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import peewee
from playhouse import db_url
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase, PooledSqliteDatabase

from floway_core.settings import SettingsError

# With the write-ahead log (see ``migrate``), "normal" syncs lose nothing when a process dies; a power cut may lose the
# last commits but never damages the file.
SQLITE_PRAGMAS = {"synchronous": "normal", "foreign_keys": 1}

POOL = {
    "max_connections": 32,  # held for single queries only, so few serve many threads
    "stale_timeout": 300,  # seconds after which an idle one is closed
}

PATIENCE = 10.0

DATABASE_ERRORS = (peewee.PeeweeException, MaxConnectionsExceeded)
"""What a query raises when the database fails; the second one when no connection becomes free in time."""


def connect(url: str, patience: float = PATIENCE) -> peewee.Database:
    """A database for ``url``; nothing is opened before the first ``connection_context()``.

    :param patience: seconds to wait for a lock, for a free connection, for a server that does not answer.
    :raises SettingsError: the URL is not usable.
    """
    pool = {**POOL, "timeout": math.ceil(patience)}
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite" and separator and rest.startswith("/") and ":memory:" not in rest:
        return _sqlite(rest.removeprefix("/"), patience)
    if scheme in ("postgres", "postgresql"):
        limits = {
            "connect_timeout": max(2, math.ceil(patience / 2)),  # seconds; for each address of the server
            "keepalives_idle": 30,  # seconds
            "tcp_user_timeout": int(patience * 1000),  # milliseconds
        }
        try:
            given = db_url.parse(f"postgresql://{rest}", unquote_user=True, unquote_password=True)
            if not given["database"]:
                raise ValueError("no name")
            return _Postgresql(**{**limits, **given, **pool}, autoconnect=False)
        except (ValueError, peewee.ImproperlyConfigured) as error:
            raise SettingsError(f"FLOWAY_DATABASE_URL cannot be used: {type(error).__name__}.") from None
    raise SettingsError("FLOWAY_DATABASE_URL is not sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.")


def in_memory() -> peewee.Database:
    """An empty SQLite database that no file holds, and that is gone when all its connections are closed."""
    return _sqlite(f"file:{secrets.token_hex(8)}?mode=memory&cache=shared", PATIENCE, uri=True)


def _sqlite(place: str, patience: float, **options: Any) -> "_Sqlite":
    database = _Sqlite(
        place,
        **{**POOL, "timeout": math.ceil(patience)},
        autoconnect=False,
        check_same_thread=False,  # the pool hands a connection from thread to thread, never to two at once
        factory=_SqliteConnection,
        pragmas={**SQLITE_PRAGMAS, "busy_timeout": int(patience * 1000)},
        **options,
    )
    database.patience = patience
    return database


class _SqliteConnection(sqlite3.Connection):
    file: tuple[int, int] | None = None
    """Device and inode of what it reads and writes."""


class _Sqlite(PooledSqliteDatabase):
    """Notices when its file has been moved, deleted or replaced: a connection goes on with what it once opened, and
    what it stores there is lost."""

    patience: float
    """Seconds to wait for another writer."""

    _file: tuple[int, int] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.writing = threading.RLock()
        self._reading = threading.Lock()
        self._reader: _SqliteConnection | None = None

    def read_fast_path(self, sql: str, parameters: Sequence[Any]) -> list[tuple] | None:
        """The rows of a query outside of any transaction, from a connection that is kept for these.

        To be lent one by the pool takes longer than what most requests ask.

        :returns: None if it is in use, if a transaction has to answer, or if somebody wants to see every statement.
        """
        if not self.is_closed() or self.query_hooks or not self._reading.acquire(blocking=False):
            return None
        try:
            with peewee.__exception_wrapper__:
                return self._usable_reader().execute(sql, parameters).fetchall()
        except peewee.PeeweeException:
            self._close_reader()  # it may be what has failed
            raise
        finally:
            self._reading.release()

    def _usable_reader(self) -> _SqliteConnection:
        known = self._reader
        if known and known.file == _identity(self.database):
            return known
        self._close_reader()
        with self._pool_lock:
            self._note_file()
            self._reader = peewee.SqliteDatabase._connect(self)
        self._reader.execute("PRAGMA query_only = 1")  # who writes has to line up
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close_all(self) -> None:
        with self._reading:
            self._close_reader()
        super().close_all()

    def _connect(self) -> sqlite3.Connection:
        with self._pool_lock:
            self._note_file()
            return super()._connect()

    def _note_file(self) -> None:
        """:raises peewee.OperationalError: it is gone."""
        known, self._file = self._file, _identity(self.database)
        if known and not self._file:
            self._file = known
            raise peewee.OperationalError("the database file is gone")

    def _add_conn_hooks(self, conn: _SqliteConnection) -> None:
        conn.file = self._file = _identity(self.database)
        super()._add_conn_hooks(conn)

    def _is_closed(self, conn: _SqliteConnection) -> bool:
        return conn.file != self._file or super()._is_closed(conn)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class _Postgresql(PooledPostgresqlDatabase):
    """Asks the system, and not the server, whether a connection still stands: that saves a round trip each time."""

    def _is_closed(self, conn: Any) -> bool:
        if conn.closed:
            return True
        poll = descriptors.poll()
        poll.register(conn.fileno(), descriptors.POLLIN)
        return bool(poll.poll(0))  # nothing was asked, so there is nothing to read but a farewell


def execute(database: peewee.Database, sql: str, *parameters: Any) -> Any:
    """Run a statement that is written as SQL, with ``?`` for parameters, on the connection that is open.

    For what every request does: there, building the SQL from a query object takes longer than running it.

    :returns: the driver's cursor.
    """
    return database.execute_sql(sql.replace("?", database.param), parameters)


def select(database: peewee.Database, sql: str, *parameters: Any) -> list[tuple]:
    """The rows of a statement that only reads, as ``run`` takes it. Opens a connection if there is none."""
    if isinstance(database, _Sqlite) and (rows := database.read_fast_path(sql, parameters)) is not None:
        return rows
    with database.connection_context():
        return execute(database, sql, *parameters).fetchall()


def lock_row(database: peewee.Database, table: str, row_id: str) -> None:
    """Keep a row from being deleted until the transaction ends.

    To be done first in it: who deletes the row locks it before all that goes with it, and so one of the two waits for
    the other, and neither for both.
    """
    if database.for_update:  # elsewhere the whole database is locked
        execute(database, f"SELECT 1 FROM {table} WHERE id = ? FOR KEY SHARE", row_id)


def placeholders(values: Collection[Any]) -> str:
    """The parameters of ``IN (...)`` for as many ``values``."""
    return ", ".join("?" * len(values))


def insert(database: peewee.Database, table: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert rows that all have the same columns, and return their ids."""
    row = f"({placeholders(rows[0])})"
    sql = f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES {', '.join([row] * len(rows))} RETURNING id"
    return [
        row_id for (row_id,) in execute(database, sql, *[value for row in rows for value in row.values()]).fetchall()
    ]


def write(database: peewee.Database, sql: str, *parameters: Any) -> list[tuple]:
    """The rows that a single statement returns which writes, as ``run`` takes it. Within a transaction it is part of
    that, else it is one by itself: to begin and to end one takes longer than most statements."""
    with _in_line(database):
        return execute(database, sql, *parameters).fetchall()


@contextlib.contextmanager
def transaction(database: peewee.Database) -> Iterator[None]:
    """A transaction that writes, on a connection of its own. One within another is part of that.

    Not to be begun with a connection in hand: who writes may be waiting for just that one.

    SQLite is told at once: a transaction that begins by reading may find itself locked out.
    """
    kind = ("IMMEDIATE",) if isinstance(database, _Sqlite) else ()
    with _in_line(database), database.atomic(*kind):
        yield


@contextlib.contextmanager
def _in_line(database: peewee.Database) -> Iterator[None]:
    """A connection to write on.

    For SQLite's, threads line up here, before they take one: there is one writer at a time, and SQLite's own way of
    waiting is to sleep and to look again, for up to 100 milliseconds each time, with connections in hand that others
    need.
    """
    if not isinstance(database, _Sqlite):
        with database.connection_context():
            yield
    elif database.writing.acquire(timeout=database.patience):
        try:
            with database.connection_context():
                yield
        finally:
            database.writing.release()
    else:
        raise peewee.OperationalError("database is locked")
