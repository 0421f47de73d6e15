"""Wait for bytes of an upstream while watching the client."""

import select
import time

from floway_core.contexts import ClientConnection
from floway_core.errors import ClientDisconnected, ShuttingDown

HANG_UP = getattr(select, "POLLRDHUP", 0)
"""With this event Linux reports that the peer has disconnected, even if there are unread bytes. Other systems do not
have it; only commands that serve no clients run there."""

DISCONNECTED = HANG_UP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class ReadinessPoller:
    """Waits until a descriptor becomes readable, the client disconnects, or the gateway shuts down."""

    def __init__(self, fileno: int, client: ClientConnection | None) -> None:
        self.client: ClientConnection | None = None
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)
        self._fileno = fileno
        self._watches_output = False
        self._client_fileno: int | None = None
        self._shutdown_fileno: int | None = None
        self.watch(client)

    def watch(self, client: ClientConnection | None) -> None:
        """Watch another client; None for no client."""
        if self._client_fileno is not None:
            self._poll.unregister(self._client_fileno)
        if self._shutdown_fileno is not None:
            self._poll.unregister(self._shutdown_fileno)
        self.client = client
        if client is None:
            self._client_fileno = self._shutdown_fileno = None
            return
        self._client_fileno, self._shutdown_fileno = client.fileno(), client.shutdown_fileno()
        if self._client_fileno is not None:
            self._poll.register(self._client_fileno, select.POLLIN | HANG_UP)
        if self._shutdown_fileno is not None:
            self._poll.register(self._shutdown_fileno, select.POLLIN)

    def is_readable(self) -> bool:
        """Return whether the descriptor is readable or has failed. The poller has no client."""
        if self._watches_output:
            self._watch_output(False)
        return bool(self._poll.poll(0))

    def wait(self, timeout: float, *, writable: bool = False) -> bool:
        """Wait until the descriptor is readable or has failed.

        :param timeout: in seconds.
        :param writable: also wait until it is writable.
        :returns: False after the timeout.
        :raises ClientDisconnected: the client disconnected.
        :raises ShuttingDown: the gateway shuts down, and no request may wait any longer.
        """
        if writable != self._watches_output:
            self._watch_output(writable)
        deadline = time.monotonic() + timeout
        while True:
            ready = self._poll.poll(max(0.0, timeout) * 1000)
            if len(ready) == 1 and ready[0][0] == self._fileno:
                return True  # nearly always
            self._check_client(dict(ready))
            timeout = deadline - time.monotonic()
            if any(fileno == self._fileno for fileno, _ in ready):
                return True
            if timeout <= 0:
                return False

    def _watch_output(self, writable: bool) -> None:
        self._watches_output = writable
        self._poll.modify(self._fileno, select.POLLIN | (select.POLLOUT if writable else 0))

    def _check_client(self, events: dict[int, int]) -> None:
        if self.client is not None and self._client_fileno is not None and self._client_fileno in events:
            if events[self._client_fileno] & DISCONNECTED or self.client.is_closed():
                raise ClientDisconnected
            # The client has sent bytes of its next request. They stay readable, so wait only for the hang-up event.
            self._poll.modify(self._client_fileno, HANG_UP)
        if self._shutdown_fileno in events:
            raise ShuttingDown
