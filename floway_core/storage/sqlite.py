"""Connections to SQLite, pooled per process.

Only this file and ``postgresql`` use private names of peewee and its pool; its stubs do not have them.
"""

import contextlib
import math
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import peewee
from playhouse.pool import PooledSqliteDatabase

# With the write-ahead log (see ``migrate``) and "normal" synchronisation, a process that dies loses nothing. A power
# cut may lose the last commits, but never damages the file.
SQLITE_PRAGMAS = {"synchronous": "normal", "foreign_keys": 1}


def open_sqlite(name: str, timeout: float, pool: Mapping[str, Any], **options: Any) -> "SqlitePool":
    """Return a database that opens its connections when they are needed.

    :param name: the file.
    :param timeout: seconds to wait for other writers.
    :param pool: options of the pool.
    """
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
        self._reader_lock = threading.Lock()
        self._reader: _SqliteConnection | None = None

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

    def read_fast_path(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """Run a query outside of any transaction, on a connection that is reserved for such queries.

        Taking a connection from the pool takes longer than most queries.

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
        reader = self._open()
        reader.execute("PRAGMA query_only = 1")  # writers need the write lock
        self._reader = reader
        return reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

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
        with self._reader_lock:
            self._close_reader()
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


def _identify(path: str) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
