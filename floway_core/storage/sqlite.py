"""Connections to SQLite, pooled per process.

Only this file and ``postgresql`` use private names of peewee and its pool; its stubs do not have them.
"""

import contextlib
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import NoneType
from typing import Any

import peewee
from playhouse.pool import PooledSqliteDatabase

# With the write-ahead log (see ``migrate``) and "normal" synchronisation, a process that dies loses nothing. A power
# cut may lose the last commits, but never damages the file.
SQLITE_PRAGMAS = {"synchronous": "normal", "foreign_keys": 1}

MAX_READERS = 4
"""Connections for single queries. A thread may have to wait for the interpreter before it returns one."""


def open_sqlite(name: str, timeout: float, pool: Mapping[str, Any], **options: Any) -> "SqlitePool":
    """Return a database that opens its connections when they are needed.

    :param name: the file.
    :param timeout: seconds to wait for other writers.
    :param pool: options of the pool.
    """
    _adapt_plain_values()
    database = SqlitePool(
        name,
        **{**pool, "timeout": math.ceil(timeout)},
        autoconnect=False,
        check_same_thread=False,  # the pool lends a connection to one thread at a time
        factory=_SqliteConnection,
        pragmas={**SQLITE_PRAGMAS, "busy_timeout": int(timeout * 1000)},
        **options,
    )
    database.writer_timeout = timeout
    return database


def _adapt_plain_values() -> None:
    """Tell ``sqlite3`` how to bind values that it binds as they are.

    Without, it asks each of them for a method that none has, and the exception takes ten times as long as binding. The
    other plain types need none. This is a setting of the whole process.
    """
    sqlite3.register_adapter(bytes, bytes)
    sqlite3.register_adapter(bool, int)
    sqlite3.register_adapter(NoneType, lambda none: none)


class _SqliteConnection(sqlite3.Connection):
    file: tuple[int, int] | None = None
    """Device and inode of the file that it has open."""


class SqlitePool(PooledSqliteDatabase):
    """Detects that its file has been moved, deleted or replaced: an open connection would go on with the old file, and
    what it stores there would be lost."""

    writer_timeout: float
    """Seconds to wait for other writers."""

    _file: tuple[int, int] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.write_lock = threading.RLock()
        """Held by the thread that writes."""
        self._writing_thread: int | None = None
        self._writer: _SqliteConnection | None = None
        self._readers: list[_SqliteConnection | None] = [None] * MAX_READERS
        """Connections for single queries that no thread uses now, the one that was used last at the end; None for one
        that is not open. A list, because ``pop`` and ``append`` need no lock."""

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Let this thread write, on a connection that is reserved for writing, unless it has one already.

        SQLite has one writer at a time, and waits for the lock by polling every 100 milliseconds. So threads wait here
        instead. Always on the same connection, they find the pages that they need in its cache: a connection drops its
        cache when another one has written.

        :raises peewee.OperationalError: other threads write for too long.
        """
        if not self.write_lock.acquire(timeout=self.writer_timeout):
            raise peewee.OperationalError("database is locked")
        outer, self._writing_thread = self._writing_thread, threading.get_ident()
        try:
            with self.connection_context():
                yield
        finally:
            self._writing_thread = outer
            self.write_lock.release()

    def own_transaction(self) -> "AbstractContextManager[None] | None":
        """Return a transaction for a thread that has no connection yet; None if it has one."""
        return _Transaction(self) if self.is_closed() else None

    def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> sqlite3.Cursor:
        """Run a statement on the open connection, like peewee's method, with fewer steps."""
        state = self._state  # type: ignore[attr-defined]
        if state.closed or self.query_hooks:
            cursor: sqlite3.Cursor = super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
            return cursor
        return _execute(state.conn, sql, params or ())

    def read_fast_path(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """Run a query outside of any transaction, on a connection that is reserved for such queries.

        Taking a connection from the pool takes longer than most queries.

        :returns: the rows; None if all these connections are in use, if a transaction is open, or if there are query
            hooks.
        """
        if not self.is_closed() or self.query_hooks:
            return None
        try:
            reader = self._readers.pop()
        except IndexError:
            return None
        try:
            reader = self._usable_reader(reader)
            rows = _fetch_all(reader, sql, parameters)
        except BaseException:
            if reader:
                reader.close()  # it may be broken
            self._readers.append(None)
            raise
        self._readers.append(reader)
        return rows

    def _usable_reader(self, reader: _SqliteConnection | None) -> _SqliteConnection:
        """Return ``reader``, or a new one if there is none or if it has another file open."""
        if reader and reader.file == _identify(self.database):
            return reader
        if reader:
            reader.close()
        reader = self._open()
        reader.execute("PRAGMA query_only = 1")  # writers need the write lock
        return reader

    def _open_writer(self) -> _SqliteConnection:
        writer = self._writer
        if writer is None or writer.file != _identify(self.database) or writer.in_transaction:
            self._close_writer()
            writer = self._writer = self._open()
        return writer

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> _SqliteConnection:
        """Open a connection that does not belong to the pool."""
        with self._pool_lock:
            self._update_file()
            connection: _SqliteConnection = peewee.SqliteDatabase._connect(self)  # type: ignore[attr-defined]
        return connection

    def close_all(self) -> None:
        """Close all connections."""
        idle, self._readers = self._readers, [None] * MAX_READERS
        for reader in filter(None, idle):
            reader.close()
        with self.write_lock:
            self._close_writer()
        super().close_all()  # type: ignore[no-untyped-call]

    def _connect(self) -> sqlite3.Connection:
        if self._writing_thread == threading.get_ident():
            return self._open_writer()
        with self._pool_lock:
            self._update_file()
            connection: sqlite3.Connection = super()._connect()
            return connection

    def _close(self, conn: _SqliteConnection, close_conn: bool = False) -> None:
        if conn is not self._writer:
            super()._close(conn, close_conn)  # type: ignore[misc]
        elif close_conn:
            self._close_writer()

    def _update_file(self) -> None:
        """:raises peewee.OperationalError: the file does not exist any more."""
        before, self._file = self._file, _identify(self.database)
        if before and not self._file:
            self._file = before
            raise peewee.OperationalError("the database file is gone")

    def _add_conn_hooks(self, conn: _SqliteConnection) -> None:
        conn.file = self._file = _identify(self.database)
        super()._add_conn_hooks(conn)  # type: ignore[misc]

    def _is_closed(self, conn: _SqliteConnection) -> bool:
        return conn.file != self._file or bool(super()._is_closed(conn))  # type: ignore[no-untyped-call]


class _Transaction:
    """A transaction that writes, on the connection that is reserved for writing, of a thread that has no connection.

    It does what ``writing`` and ``atomic`` of peewee do together, in fewer steps.
    """

    __slots__ = ("_pool",)

    def __init__(self, pool: SqlitePool) -> None:
        self._pool = pool

    def __enter__(self) -> None:
        """:raises peewee.OperationalError: other threads or processes write for too long."""
        pool = self._pool
        if not pool.write_lock.acquire(timeout=pool.writer_timeout):
            raise peewee.OperationalError("database is locked")
        state = pool._state  # type: ignore[attr-defined]
        try:
            connection = pool._open_writer()
            _execute(connection, "BEGIN IMMEDIATE")
            state.set_connection(connection)
            state.ctx.append(self)  # an inner block neither closes the connection,
            state.transactions.append(self)  # nor begins or commits
        except BaseException:
            pool.write_lock.release()
            raise

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        pool = self._pool
        state = pool._state  # type: ignore[attr-defined]
        connection: _SqliteConnection = state.conn
        try:
            if kind is None:
                pool.commit()  # type: ignore[no-untyped-call]  # the method, because plugins and tests may watch it
                pool._run_commit_callbacks()  # type: ignore[attr-defined]
        finally:
            state.reset()
            with contextlib.suppress(sqlite3.Error):  # the next transaction does not use this connection then
                if connection.in_transaction:  # SQLite has not rolled back by itself
                    connection.rollback()
            pool.write_lock.release()


def _execute(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
    """Run a statement.

    :raises peewee.PeeweeException: it failed.
    """
    try:
        return connection.execute(sql, parameters)
    except sqlite3.Error:
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            raise


def _fetch_all(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a query and return its rows.

    :raises peewee.PeeweeException: it failed.
    """
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.Error:
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            raise


def _identify(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
