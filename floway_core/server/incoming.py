"""Collect the bytes of a request until a thread can serve it without waiting."""

MAX_BUFFERED_BODY_BYTES = 64 * 1024
"""Size up to which a body must be complete before its request gets a thread."""


class IncomingRequest:
    """The first bytes of the next request of a connection, and those that follow it.

    A thread can serve the request without waiting for the client when its head has arrived, and a small body. A body
    that is large, in chunks or announced by ``expect`` is read by the thread that has admitted the request. The object
    is false if nothing has arrived.
    """

    __slots__ = ("_data", "_max_head_bytes", "_needed", "is_late")

    def __init__(self, max_head_bytes: int) -> None:
        """:param max_head_bytes: limit for the head. A thread gets the start of a longer head, to refuse it."""
        self._data: bytes | bytearray = b""
        self._max_head_bytes = max_head_bytes
        self._needed = 0
        """The number of bytes that a thread needs; 0 until the end of the head has arrived."""
        self.is_late = False
        """Whether the rest of the body did not arrive in time. Then nobody waits for it any more."""

    def __bool__(self) -> bool:
        return bool(self._data)

    def __len__(self) -> int:
        return len(self._data)

    @property
    def has_head(self) -> bool:
        """Whether the head is complete."""
        return self._needed > 0

    @property
    def is_ready(self) -> bool:
        """Whether a thread can serve the request."""
        return 0 < self._needed <= len(self._data)

    def add(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        searched = len(self._data)
        if not searched:
            self._data = data  # it usually is the whole request
        elif isinstance(self._data, bytes):
            self._data = bytearray(self._data + data)
        else:
            self._data += data
        if not self._needed and data:
            self._needed = self._bytes_needed(max(0, searched - 2))

    def take(self) -> bytes:
        """Return all bytes, and clear the buffer."""
        data = bytes(self._data)
        self._data, self._needed, self.is_late = b"", 0, False
        return data

    def _bytes_needed(self, start: int) -> int:
        """:param start: position before which the head does not end."""
        data = self._data
        end = data.find(b"\n\r\n", start)
        if end >= 0:
            return end + 3 + _small_body_bytes(data[: end + 1].lower())
        # Neither of these is valid; the parser reports it.
        return int(len(data) > self._max_head_bytes or data.find(b"\n\n", start) >= 0)


def _small_body_bytes(head: bytes | bytearray) -> int:
    """Return the size of the body that must arrive before a thread gets the request.

    :param head: in lower case, with the end of its last line.
    """
    start = head.find(b"\ncontent-length:")
    if start < 0 or head.find(b"\nexpect:") >= 0 or head.find(b"\ntransfer-encoding:") >= 0:
        return 0
    start += len(b"\ncontent-length:")
    value = head[start : head.index(b"\n", start)].strip()
    # The parser refuses values that are not a number or exceed the limit.
    return int(value) if len(value) < 8 and value.isdigit() and int(value) <= MAX_BUFFERED_BODY_BYTES else 0
