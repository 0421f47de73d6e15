"""Stand-ins for the client of a response that is created in the background."""

import socket
from collections.abc import Callable

from floway_core.engine.client_stream import ClientStream, StreamState
from floway_core.runtime.gateway import ShutdownSignal

BLOCKS_PER_STEP = 16
"""Blocks to process in one step, because other streams wait."""


class CancelSignal:
    """A ``ClientConnection`` that disconnects when the response is cancelled."""

    def __init__(self, shutdown: ShutdownSignal) -> None:
        self._shutdown = shutdown
        self.socket, self._sender = socket.socketpair()
        self.socket.setblocking(False)
        self._is_set = False

    def set(self) -> None:
        """Cancel all waiting for the upstream."""
        self._is_set = True
        self._sender.close()

    def close(self) -> None:
        """Free the descriptors."""
        self._sender.close()
        self.socket.close()

    def fileno(self) -> int | None:
        """Return the descriptor; see ``ClientConnection``."""
        return self.socket.fileno()

    def is_closed(self) -> bool:
        """Return whether the response has been cancelled."""
        return self._is_set

    def shutdown_fileno(self) -> int:
        """Return the descriptor of the shutdown signal."""
        return self._shutdown.fileno()


class RecordedStream(ClientStream):
    """The stream of a response without a client. A recorder gets its bytes."""

    def __init__(self, inner: ClientStream, record: Callable[[bytes], None]) -> None:
        """:param record: gets the bytes."""
        super().__init__(inner.answer)
        self._inner = inner
        self._record = record

    def fileno(self) -> int | None:
        """Return the descriptor of the upstream's answer."""
        return self._inner.fileno()

    def _step(self, wait: bool) -> bytes:
        for _ in range(BLOCKS_PER_STEP):
            block = self._inner.advance(wait)
            self._record(block)
            if not block or self._inner.state is not StreamState.WAITING:
                break
            wait = False  # further bytes may have arrived, and then the descriptor does not become readable again
        self.state = self._inner.state
        return b""

    def run_to_end(self) -> None:
        """Advance the stream to its end, in a thread that waits."""
        while self.state is not StreamState.ENDED:
            self.advance()

    def _release(self) -> None:
        self._inner.close()
