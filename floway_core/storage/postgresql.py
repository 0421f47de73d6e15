"""The connection pool of PostgreSQL, with time limits for all waiting.

Only this file and ``sqlite`` use private names of peewee and its pool; its stubs do not have them.
"""

import contextlib
import heapq
import math
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import peewee
from playhouse.pool import MaxConnectionsExceeded, PoolConnection, PooledPostgresqlDatabase

MAX_MARGIN_SECONDS = 1.0
"""How much longer Floway waits than the server. After the server's own error, the connection is still usable."""


IDLE_TRANSACTION_TIMEOUTS = 3
"""Time for which a transaction may be idle, while a plugin or a busy worker prepares its next statement, in units of
the time limit."""


class PostgresqlPool(PooledPostgresqlDatabase):
    """A pool whose connections are opened outside of its lock, and whose statements end in time.

    The server ends statements and waits for locks. A server that is frozen or unreachable does nothing, so Floway also
    stops waiting, and closes the connection.
    """

    time_limit = math.inf
    """Seconds for a connection, for a statement, and for a lock. Set it before the first connection."""

    failed_at = -math.inf
    """When the server last failed to connect or to answer, in monotonic seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._thread = threading.local()
        self._opening = 0
        """Number of connections that are being opened."""
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        # peewee holds this lock while it connects. The state that it protects is set once, or belongs to a thread.
        self._lock = contextlib.nullcontext()

    # -------------------------------------------------------------------------------------------------------- deadlines
    @contextlib.contextmanager
    def limited_time(self, seconds: float) -> Iterator[None]:
        """Limit the time that this thread may wait for the database, all in all, within the block.

        :param seconds: ``math.inf`` lifts all limits, also the usual ones.
        """
        before, self._thread.deadline = getattr(self._thread, "deadline", None), time.monotonic() + seconds
        try:
            yield
        finally:
            self._thread.deadline = before

    def seconds_left(self, limit: float) -> float:
        """Return how long this thread may wait now, in seconds.

        :param limit: the usual limit.
        """
        deadline = getattr(self._thread, "deadline", None)
        if deadline is None:
            return limit
        return math.inf if deadline == math.inf else max(0.0, min(limit, deadline - time.monotonic()))

    # ------------------------------------------------------------------------------------------------------------- pool
    def connect(self, reuse_if_open: bool = False) -> bool:
        """Take a connection, like peewee's method. Wait for one within the time limit of this thread."""
        deadline = time.monotonic() + self.seconds_left(self.time_limit)
        while True:
            try:
                # The method of the pool would wait for the usual time, whatever this thread may.
                return bool(peewee.Database.connect(self, reuse_if_open))
            except MaxConnectionsExceeded:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                with self._pool_available:
                    self._pool_available.wait(min(left, 1.0))
            except peewee.OperationalError:
                self.failed_at = time.monotonic()
                if not self._wait_for_return(deadline):
                    raise

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """As peewee's method. Errors do not quote the row that violates a constraint: it contains conversations."""
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except peewee.IntegrityError as error:
            diagnosis = error.orig.diag  # type: ignore[attr-defined]
            raise peewee.IntegrityError(diagnosis.message_primary) from None

    def _wait_for_return(self, deadline: float) -> bool:
        """Wait until another thread returns a connection, because the server allows no further ones.

        :param deadline: in monotonic time.
        :returns: false if that does not happen in time, or if none is in use, such as when the server is gone.
        """
        with self._pool_available:
            while not self._connections:
                left = deadline - time.monotonic()
                if left <= 0 or not self._in_use:
                    return False
                self._pool_available.wait(min(left, 1.0))
        return True

    def _connect(self) -> Any:
        with self._pool_lock:
            while self._connections:
                opened_at, _, connection = heapq.heappop(self._connections)
                if not self._is_closed(connection) and not self._is_stale(opened_at):  # type: ignore[no-untyped-call]
                    return self._lend(connection, opened_at)
                self._close_raw(connection)  # type: ignore[no-untyped-call]
            if len(self._in_use) + self._opening >= self._max_connections:
                raise MaxConnectionsExceeded("All connections to the database are in use.")
            self._opening += 1
        try:
            connection = self._open()
        finally:
            with self._pool_lock:
                self._opening -= 1
                self._pool_available.notify()
        with self._pool_lock:
            return self._lend(connection, time.time())

    def _lend(self, connection: Any, opened_at: float) -> Any:
        self._in_use[self.conn_key(connection)] = PoolConnection(opened_at, connection, time.time())
        return connection

    def _open(self) -> Any:
        self._use_deadlines()
        connection = peewee.PostgresqlDatabase._connect(self)  # type: ignore[attr-defined]
        if self.time_limit < math.inf:
            with connection.cursor() as cursor:
                cursor.execute("; ".join(f"SET {name} = {value}" for name, value in self._session_settings().items()))
        return connection

    def _session_settings(self) -> dict[str, int]:
        """Return settings with which the server waits neither for long nor for a host that is gone.

        The locks of a transaction whose host is frozen or without power would block others for hours.
        """
        milliseconds = int(self.time_limit * 1000)
        return {
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUTS * milliseconds,
            "tcp_keepalives_idle": 60,  # seconds
            "tcp_keepalives_interval": 10,
            "tcp_keepalives_count": 3,
        }

    def _use_deadlines(self) -> None:
        """Make the driver call ``_wait`` whenever it waits for the server.

        This is a setting of the whole process. Connections of others wait without a limit.
        """
        try:
            from psycopg2 import extensions
        except ImportError:  # peewee reports it
            return
        extensions.set_wait_callback(_wait)
        pool = self

        class Connection(extensions.connection):
            def seconds_left(self) -> float:
                return pool.seconds_left(pool.time_limit + min(MAX_MARGIN_SECONDS, pool.time_limit / 4))

            def note_silence(self) -> None:
                pool.failed_at = time.monotonic()

        self.connect_params.setdefault("connection_factory", Connection)

    def _is_closed(self, conn: Any) -> bool:
        """Ask the system, not the server, whether a pooled connection is still open. This saves a round trip."""
        if conn.closed:
            return True
        poll = select.poll()
        poll.register(conn.fileno(), select.POLLIN)
        return bool(poll.poll(0))  # no query is open, so readable means that the server has closed it


def _wait(connection: Any) -> None:
    """Wait until a connection has connected, or has an answer.

    :raises psycopg2.OperationalError: the time limit is over. The driver then closes the connection.
    """
    from psycopg2 import OperationalError, extensions

    is_limited = hasattr(connection, "seconds_left")
    seconds = connection.seconds_left() if is_limited else math.inf
    deadline = time.monotonic() + seconds
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        left = deadline - time.monotonic()
        if not poll.poll(None if left == math.inf else max(0, left * 1000)):
            if is_limited:
                connection.note_silence()
            raise OperationalError("the database server did not answer in time")
