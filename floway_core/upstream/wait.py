"""Waiting for an upstream while watching the client."""

import select
import time
from contextvars import ContextVar

from floway_core.contexts import Client
from floway_core.errors import ClientGone

# The client on whose behalf the running thread sends a request: a connection that waits for its answer knows it from
# here, because the HTTP library in between cannot pass it on.
watched_client: ContextVar[Client | None] = ContextVar("watched_client", default=None)


class Readiness:
    """Waits until a descriptor can be read, or its client hangs up."""

    def __init__(self, fileno: int, client: Client | None) -> None:
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)
        self._fileno = fileno
        self._client = client
        self._client_fileno = client.fileno() if client else None
        if self._client_fileno is not None:
            self._poll.register(self._client_fileno, select.POLLIN)

    def wait(self, timeout: float) -> bool:
        """Whether the descriptor became readable (or failed) within ``timeout`` seconds.

        :raises ClientGone: the client hung up.
        """
        deadline = time.monotonic() + timeout
        while True:
            ready = [fileno for fileno, _ in self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)]
            if self._client_fileno in ready:
                if self._client.gone():
                    raise ClientGone
                # It sent something early. That stays readable until the next request is served, so stop looking.
                self._poll.unregister(self._client_fileno)
                self._client_fileno = None
            if self._fileno in ready:
                return True
            if time.monotonic() >= deadline:
                return False
