"""Operations on the sockets of clients, and the limit of descriptors."""

import contextlib
import resource
import socket
import struct

RESERVED_FILES = 1 / 8
"""Share of the descriptors that connections without a key do not get: requests need some for upstreams."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""Value of ``SO_LINGER``: closing the socket resets the connection and drops unsent bytes."""


def reset(sock: socket.socket) -> None:
    """Close a socket without sending what the system still holds for the client."""
    with contextlib.suppress(OSError):  # it is closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    sock.close()


def are_files_scarce(newest: socket.socket) -> bool:
    """Return whether few descriptors are left. The system always gives the lowest one that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit != resource.RLIM_INFINITY and newest.fileno() >= limit * (1 - RESERVED_FILES)


def take_lowest_descriptor(sock: socket.socket) -> socket.socket:
    """Move a socket to the lowest descriptor that is free, so that the numbers still tell how many are left."""
    try:
        moved = sock.dup()
    except OSError:  # a thread has taken the one that was free
        return sock
    sock.close()
    return moved


def set_socket_timeouts(sock: socket.socket, seconds: float) -> None:
    """Let reads and writes fail after so many seconds without progress, or if the peer is unreachable."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
