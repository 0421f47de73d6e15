"""The connections that no thread serves, in the order in which a full worker drops them."""

from collections.abc import Iterator

from floway_core.server.connection import Connection, Rank


class WaitingConnections:
    """Connections of the main loop: those that have waited longest come first."""

    def __init__(self) -> None:
        self._by_rank: dict[Rank, dict[Connection, None]] = {rank: {} for rank in Rank}
        self._by_network: dict[str, dict[Connection, None]] = {}
        """Those without a key, by the address that they come from."""
        self._received: dict[Connection, int] = {}
        """The bytes of those that have received a part of a request, in the order in which it has begun."""
        self.received_bytes = 0
        """The sum of these bytes."""

    def __iter__(self) -> Iterator[Connection]:
        for connections in self._by_rank.values():
            yield from connections

    def __contains__(self, conn: Connection) -> bool:
        return conn in self._by_rank[conn.rank]

    def add(self, conn: Connection) -> None:
        """Add a connection, whose rank stays the same until it is removed."""
        self._by_rank[conn.rank][conn] = None
        if conn.rank < Rank.AUTHENTICATED and conn.network:
            self._by_network.setdefault(conn.network, {})[conn] = None
        self.note_received(conn)

    def remove(self, conn: Connection) -> None:
        """Remove a connection."""
        self.received_bytes -= self._received.pop(conn, 0)
        del self._by_rank[conn.rank][conn]
        if conn.rank < Rank.AUTHENTICATED and conn.network:
            neighbours = self._by_network[conn.network]
            del neighbours[conn]
            if not neighbours:
                del self._by_network[conn.network]

    def note_received(self, conn: Connection) -> None:
        """Note how much a waiting connection has received of its next request."""
        if size := len(conn.incoming):
            self.received_bytes += size - self._received.get(conn, 0)
            self._received[conn] = size

    def oldest_received(self) -> Connection:
        """Return the connection that waits longest for the rest of a request: one without a key, if there is any."""
        strangers = (conn for conn in self._received if conn.rank < Rank.AUTHENTICATED)
        return next(strangers, None) or next(iter(self._received))

    def count(self, rank: Rank) -> int:
        """Return the number of connections of a rank."""
        return len(self._by_rank[rank])

    def least_useful(self, highest: Rank = Rank.AUTHENTICATED) -> Connection | None:
        """Return the connection to drop first; None if there is none up to the rank ``highest``."""
        for rank, connections in self._by_rank.items():
            if connections and rank <= highest:
                return next(iter(connections))
        return None

    def surplus(self, network: str, limit: int) -> Connection | None:
        """Return the connection from an address that has waited longest without a key.

        :param limit: the number of such connections of an address; 0 for no limit.
        :returns: None if there are no more than ``limit``.
        """
        neighbours = self._by_network.get(network, {})
        return next(iter(neighbours)) if limit and len(neighbours) > limit else None

    def expired(self, now: float) -> list[Connection]:
        """Return the connections whose time is over.

        :param now: monotonic time in seconds.
        """
        return [conn for conn in self if conn.deadline <= now]
