"""The client's connection, found in the WSGI environment."""

import socket
from collections.abc import Mapping
from typing import Any

from floway_core.runtime.gateway import ShutdownSignal


class SocketClient:
    """Watches the socket of a request. Without a socket, the client seems to be connected for ever."""

    def __init__(self, environ: Mapping[str, Any], shutdown: ShutdownSignal, *, watches: bool = True) -> None:
        """:param watches: whether to notice that the client disconnects."""
        self._shutdown = shutdown
        connection = environ.get("gunicorn.socket") if watches else None
        # The socket of a TLS connection cannot be peeked at.
        self._socket = connection if type(connection) is socket.socket else None

    def fileno(self) -> int | None:
        """Return the descriptor of the socket; see ``ClientConnection``."""
        return self._socket.fileno() if self._socket and self._socket.fileno() >= 0 else None

    def is_closed(self) -> bool:
        """Return whether the client has disconnected."""
        if self._socket is None:
            return False
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def shutdown_fileno(self) -> int:
        """Return the descriptor of the shutdown signal."""
        return self._shutdown.fileno()
