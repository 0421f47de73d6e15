"""The idle connections to upstreams, each with what it needs to be watched."""

import socket

from urllib3.connection import HTTPConnection

from floway_core.upstream.poll import ReadinessPoller


class PooledConnection:
    """A connected connection. It serves one exchange after the other."""

    def __init__(self, connection: HTTPConnection, pool: "ConnectionPool") -> None:
        """:param connection: connected by urllib3."""
        self._connection = connection
        self._pool = pool
        self.socket: socket.socket = connection.sock
        """It never blocks."""
        self.socket.settimeout(0)
        self.poller = ReadinessPoller(self.socket.fileno(), None)

    def release(self) -> None:
        """Make the connection available for another exchange."""
        self.poller.watch(None)
        self._pool.put(self)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class ConnectionPool:
    """The idle connections to one server. The one that was used last is taken first. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """:param limit: how many connections are kept."""
        self._limit = limit
        self._idle: list[PooledConnection] = []

    def take(self) -> PooledConnection | None:
        """Take a connection that the upstream has not closed; return None if there is none."""
        try:
            while True:
                connection = self._idle.pop()
                if not connection.poller.is_readable():
                    return connection
                connection.close()
        except IndexError:
            return None

    def put(self, connection: PooledConnection) -> None:
        """Add a connection. If there are enough, it is closed."""
        if len(self._idle) < self._limit:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()
