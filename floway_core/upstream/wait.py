"""Waiting for an upstream while watching the client."""

import select
import time
from contextvars import ContextVar

from floway_core.contexts import Client
from floway_core.errors import ClientGone

# The client on whose behalf the running thread sends a request: a connection that waits for its answer knows it from
# here, because the HTTP library in between cannot pass it on.
watched_client: ContextVar[Client | None] = ContextVar("watched_client", default=None)


# Linux tells that the peer has closed even while unread bytes are in the way; elsewhere only reading shows it.
CLOSED = getattr(select, "POLLRDHUP", 0)
GONE = CLOSED | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Readiness:
    """Waits until a descriptor can be read, or its client hangs up."""

    def __init__(self, fileno: int, client: Client | None) -> None:
        self.client = client
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)
        self._fileno = fileno
        self._client_fileno = client.fileno() if client else None
        if self._client_fileno is not None:
            self._poll.register(self._client_fileno, select.POLLIN | CLOSED)

    def wait(self, timeout: float) -> bool:
        """Whether the descriptor became readable (or failed) within ``timeout`` seconds.

        :raises ClientGone: the client hung up.
        """
        deadline = time.monotonic() + timeout
        while True:
            ready = dict(self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if self._client_fileno in ready:
                if ready[self._client_fileno] & GONE or self.client.gone():
                    raise ClientGone
                # It sent something early. That stays readable until the next request is served.
                self._poll.modify(self._client_fileno, CLOSED)
            if self._fileno in ready:
                return True
            if time.monotonic() >= deadline:
                return False
