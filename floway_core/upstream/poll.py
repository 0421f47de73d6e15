"""Waiting for an upstream while watching the client."""

import select
import time

from floway_core.contexts import ClientConnection
from floway_core.errors import ClientDisconnected, ShuttingDown

# Linux tells that the peer has closed even while unread bytes are in the way; elsewhere only reading shows it.
CLOSED = getattr(select, "POLLRDHUP", 0)
GONE = CLOSED | select.POLLHUP | select.POLLERR | select.POLLNVAL


class ReadinessPoller:
    """Waits until a descriptor can be read, or its client hangs up."""

    def __init__(self, fileno: int, client: ClientConnection | None) -> None:
        self.client = client
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)
        self._fileno = fileno
        self._client_fileno = client.fileno() if client else None
        if self._client_fileno is not None:
            self._poll.register(self._client_fileno, select.POLLIN | CLOSED)
        self._ending_fileno = client.shutdown_fileno() if client else None
        if self._ending_fileno is not None:
            self._poll.register(self._ending_fileno, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Whether the descriptor became readable (or failed) within ``timeout`` seconds.

        :raises ClientDisconnected: the client hung up.
        :raises ShuttingDown: the gateway ends.
        """
        deadline = time.monotonic() + timeout
        while True:
            ready = self._poll.poll(max(0.0, timeout) * 1000)
            if len(ready) == 1 and ready[0][0] == self._fileno:
                return True  # as nearly always
            self._look_at(dict(ready))
            timeout = deadline - time.monotonic()
            if any(fileno == self._fileno for fileno, _ in ready):
                return True
            if timeout <= 0:
                return False

    def _look_at(self, ready: dict[int, int]) -> None:
        if self._client_fileno in ready:
            if ready[self._client_fileno] & GONE or self.client.is_closed():
                raise ClientDisconnected
            # It sent something early. That stays readable until the next request is served.
            self._poll.modify(self._client_fileno, CLOSED)
        if self._ending_fileno in ready:
            raise ShuttingDown
