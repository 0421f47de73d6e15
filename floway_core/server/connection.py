"""One connection of a client: what has arrived on it, what is still to be sent, and how useful it is."""

import select
import socket
import time
from enum import IntEnum
from typing import Any

from gunicorn.workers.gthread import TConn

from floway_core.receiving import receive
from floway_core.server.incoming import IncomingRequest
from floway_core.server.send_buffer import SendBuffer

NEXT_REQUEST_WAIT_SECONDS = 0.05
"""Time that a thread waits for the next request of a client whose last one came within it. Returning the connection to
the main loop takes longer than serving a small request."""


class Rank(IntEnum):
    """How useful a connection is that no thread serves. The lower ones are dropped first."""

    CLOSING = 0
    """It only waits for the client to close."""
    UNAUTHENTICATED = 1
    """No request on it has had a valid key so far."""
    AUTHENTICATED = 2


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no annotations
    """A connection, which either a thread or one of the loops uses at a time.

    Its socket is a blocking one, for the threads. The loops say with each call that they do not wait.
    """

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, max_head_bytes: int) -> None:
        """:param client: the client's address, as ``accept`` returns it.
        :param max_head_bytes: limit for the head of a request.
        """
        super().__init__(cfg, sock, client, server)
        sock.setblocking(True)
        self.incoming = IncomingRequest(max_head_bytes)
        """The next request."""
        self.environ: dict[str, Any] = {}
        """The part of the WSGI environment that is the same for all its requests."""
        self.unsent = SendBuffer()
        """What the client has not accepted yet of the responses."""
        self.keeps_alive = True
        """Whether further requests may follow."""
        self.rank = Rank.UNAUTHENTICATED
        self.deadline = 0.0
        """The end of its time in the main loop, in monotonic seconds."""
        self.served_at = 0.0
        """When a thread has last served it, in monotonic seconds."""
        self.is_quick = False
        """Whether the last request came so soon after the one before that a thread had better wait for the next."""
        self.network = _network(client)
        """What the limit of connections counts: the client's address; empty if it has none."""
        self.is_registered = False
        """Whether the poller of the main loop has watched it before."""
        self._poll: select.poll | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request and nothing else."""
        return self.rank is not Rank.CLOSING and not self.unsent

    def receive(self) -> bool:
        """Take what has arrived, without waiting.

        :returns: False if the client has sent its last byte.
        :raises OSError: the client has disconnected.
        """
        try:
            data = receive(self.sock, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        self.incoming.add(data)
        return bool(data)

    def note_request(self) -> None:
        """Note how soon the next request has come."""
        self.is_quick = time.monotonic() - self.served_at < NEXT_REQUEST_WAIT_SECONDS

    def wait(self) -> bool:
        """Wait a moment until something arrives, and return whether it has."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.sock, select.POLLIN)
        return bool(self._poll.poll(NEXT_REQUEST_WAIT_SECONDS * 1000))

    def name(self) -> str:
        """Return the client's address for the log."""
        return "{}:{}".format(*self.client[:2]) if isinstance(self.client, tuple) else "a client"


def _network(client: Any) -> str:
    """Return the client's address. Of IPv6 it is the first half, of which anybody has all addresses."""
    if not isinstance(client, tuple):
        return ""  # of a Unix socket
    host = str(client[0])
    if ":" not in host or host.startswith("::ffff:"):
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8].hex()
