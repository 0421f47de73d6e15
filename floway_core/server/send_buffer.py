"""Buffer bytes that a client has not accepted yet, and send them in slices, without blocking and without copies."""

import fcntl
import socket
import struct
import termios

from floway_core.runtime.memory import MemoryBudget

SLICE_BYTES = 256 * 1024
"""Bytes to send at a time, so that clients with much to receive take turns with all others."""

JOIN_BYTES = 64 * 1024
"""Size up to which buffers are joined, because copying them is cheaper than a further system call."""


def send_now(sock: socket.socket, data: bytes | memoryview) -> int:
    """Send as much of the first slice of ``data`` as the socket accepts at once, and return how many bytes that is.

    :raises OSError: the client has disconnected.
    """
    try:
        return sock.send(data if len(data) <= SLICE_BYTES else memoryview(data)[:SLICE_BYTES], socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0


def frame_chunk(data: bytes) -> tuple[bytes, ...]:
    """Frame ``data`` as a chunk of HTTP/1.1. Returns the byte strings to send."""
    if len(data) <= JOIN_BYTES:
        return (b"%X\r\n%b\r\n" % (len(data), data),)
    return b"%X\r\n" % len(data), data, b"\r\n"


class SendBuffer:
    """Bytes that a socket has not accepted yet. It is false if there are none."""

    __slots__ = ("_accepted", "_memory", "_pieces", "_received", "_reserved")

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []
        self._accepted = 0
        """Bytes that the system has taken so far."""
        self._received = 0
        """Bytes that the client had received when ``has_progressed`` was called last."""
        self._memory: MemoryBudget | None = None
        self._reserved = 0
        """Bytes that are reserved in ``_memory``."""

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    def write(self, sock: socket.socket, data: bytes) -> bool:
        """Send ``data`` after the bytes in the buffer. What the socket does not accept at once is buffered.

        :returns: whether the buffer is empty now.
        :raises OSError: the client has disconnected.
        """
        count = 0 if self._pieces else send_now(sock, data)
        self._accepted += count
        if count < len(data):
            self._pieces.append(memoryview(data)[count:])
        return not self._pieces

    def reserve(self, memory: MemoryBudget) -> None:
        """Reserve memory for the bytes in the buffer until it is empty."""
        if self._pieces and not self._reserved:
            self._memory, self._reserved = memory, len(self)
            memory.use(self._reserved)

    def _release(self) -> None:
        if self._memory and not self._pieces:
            self._memory.release(self._reserved)
            self._memory, self._reserved = None, 0

    def flush(self, sock: socket.socket) -> int:
        """Send one slice from the buffer, which must not be empty.

        :returns: how many bytes the socket has accepted.
        :raises OSError: the client has disconnected.
        """
        piece = self._pieces[0]
        count = send_now(sock, piece)
        self._accepted += count
        if count < len(piece):
            self._pieces[0] = piece[count:]
        else:
            del self._pieces[0]
            self._release()
        return count

    def has_progressed(self, sock: socket.socket) -> bool:
        """Return whether the client has received anything since the last call.

        The system buffers megabytes for a client, so a slow reader may not accept new bytes for a long time.
        """
        held = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
        before, self._received = self._received, self._accepted - held
        return self._received > before

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._release()

    def wait(self, sock: socket.socket) -> None:
        """Send everything, and wait for the client as long as the timeout of the socket allows.

        :raises OSError: the client has disconnected, or does not read.
        """
        while self._pieces:
            sock.sendall(self._pieces[0])
            self._accepted += len(self._pieces[0])
            del self._pieces[0]
        self._release()
