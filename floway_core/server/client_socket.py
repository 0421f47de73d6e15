"""What the worker does with the socket of a client outside of a request."""

import select
import socket
import struct
from typing import Any

from floway_core.errors import Overloaded
from floway_core.runtime.dialects import Dialects
from floway_core.server.request_parser import READ_BYTES, error_response, request_path


def is_readable(sock: socket.socket, timeout: float) -> bool:
    """Wait until bytes have arrived, for ``timeout`` seconds at most."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def set_timeouts(sock: socket.socket, seconds: float) -> None:
    """Let reads and writes fail after so many seconds without progress, or if the peer is unreachable."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def peer_name(address: Any) -> str:
    """Return the address of a client for the log."""
    return "{}:{}".format(*address[:2]) if isinstance(address, tuple) else "a client"


def refuse_overloaded(sock: socket.socket, request_id: str, dialects: Dialects) -> bool:
    """Answer the request whose beginning has arrived with 503, without waiting.

    :returns: whether there is one; the client may have disconnected.
    """
    try:
        head = sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
        if head:  # the answer fits into the buffer of the connection, which is empty
            sock.send(error_response(Overloaded(), request_id, dialects, request_path(head)), socket.MSG_DONTWAIT)
    except OSError:
        return False
    return bool(head)
