"""Receiving from sockets through a few buffers that are used again."""

import socket

READ_BYTES = 64 * 1024
"""Bytes to receive at a time: more than one TLS record."""

_spare: list[memoryview] = []
"""Buffers that nobody uses at the moment: as many as threads have received at the same time."""


def receive(sock: socket.socket, flags: int = 0, size: int = READ_BYTES) -> bytes:
    """Receive at most ``size`` bytes from a socket, without waiting; ``b""`` at the end of the connection.

    ``sock.recv`` allocates that much and gives back what it does not need. As long as the few bytes that remain are in
    use, the rest is a hole that is too small for the next call, and so a process would grow for hours.

    :param flags: of ``recv``: ``MSG_DONTWAIT`` for a socket that waits otherwise; 0 for TLS.
    :param size: not more than ``READ_BYTES``.
    :raises OSError: as ``recv``.
    """
    try:
        buffer = _spare.pop()
    except IndexError:
        buffer = memoryview(bytearray(READ_BYTES))
    try:
        return buffer[: sock.recv_into(buffer, size, flags)].tobytes()
    finally:
        _spare.append(buffer)
