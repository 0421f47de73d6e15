"""The client's connection, as the server hands it to a view."""

import socket
from collections.abc import Mapping
from typing import Any

from floway_core.runtime.gateway import ShutdownSignal


class SocketClient:
    """Watches the socket on which gunicorn received the request; sees nothing where the server offers none."""

    def __init__(self, environ: Mapping[str, Any], ending: ShutdownSignal) -> None:
        self._ending = ending
        found = environ.get("gunicorn.socket")
        # A TLS socket cannot be looked at without reading from it.
        self._socket = found if type(found) is socket.socket else None

    def fileno(self) -> int | None:
        return self._socket.fileno() if self._socket and self._socket.fileno() >= 0 else None

    def is_closed(self) -> bool:
        if self._socket is None:
            return False
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def shutdown_fileno(self) -> int:
        return self._ending.fileno()
