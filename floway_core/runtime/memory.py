"""A memory budget that all requests of a process share, and estimates of the memory of parsed JSON."""

import re
import threading

from floway_core.errors import GatewayError

VALUE_BYTES = {b",": 80, b":": 100, b"[": 90, b"{": 190}
"""The approximate size in CPython of a value, a member, an array and an object, without their texts, by the character
that identifies it in JSON."""

VALUE_SIZE = 240
"""The size in CPython of a value of any kind, without its text, at most. The largest is an object with one member."""

SLICE_BYTES = 256 * 1024
"""Bytes of text to count at a time."""


BYTES_PER_ESCAPE = 30
"""A text with fewer than one escape sequence for so many bytes has few."""

_ESCAPE = re.compile(rb"\\.", re.DOTALL)

SAMPLE_BYTES = 4096
"""Length of the beginning of a text, which usually shows whether it has many."""


class MemoryBudget:
    """Bytes that the requests of a process may use together. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes."""
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    def reserve(self, size: int) -> bool:
        """Reserve ``size`` bytes; return whether they were free."""
        with self._lock:
            if self._used + size > self.limit:
                return False
            self._used += size
            return True

    def use(self, size: int) -> None:
        """Reserve ``size`` bytes that are in use already, even beyond the limit."""
        with self._lock:
            self._used += size

    def release(self, size: int) -> None:
        """Release ``size`` reserved bytes."""
        self.use(-size)


class Reservation:
    """The share of one request in a budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.size = 0
        """Bytes."""
        self._is_shrunk = False

    @property
    def limit(self) -> int:
        """The bytes of the budget that all requests share."""
        return self._budget.limit

    def add(self, size: int) -> None:
        """Reserve ``size`` more bytes.

        :raises GatewayError: 503 if other requests hold the memory, 413 if the request needs more than there is.
        """
        if self._budget.reserve(size):
            self.size += size
            return
        if self.size + size > self._budget.limit:
            message = f"The request needs more than {self._budget.limit} bytes of memory."
            raise GatewayError(413, message, code="request_too_large")
        message = "Other requests use the memory that the gateway has for bodies and conversations. Try again soon."
        raise GatewayError(503, message, code="server_overloaded", headers={"retry-after": "1"})

    def remove(self, size: int) -> None:
        """Release ``size`` of the reserved bytes."""
        self._budget.release(size)
        self.size -= size

    def shrink(self) -> None:
        """Release half of it when an upstream has accepted the request. Further calls do nothing.

        What is free then is at least as large as what remains in memory: the text that the upstream got, and a second
        copy of the values.
        """
        if not self._is_shrunk:
            self._is_shrunk = True
            self.remove(self.size // 2)

    def release(self) -> None:
        """Release everything."""
        self.remove(self.size)


def count_values(text: bytes) -> dict[bytes, int]:
    """Count the characters of ``VALUE_BYTES`` in a JSON text, outside of its strings.

    The time is linear in the length of ``text``, and no more than a few ``SLICE_BYTES`` are allocated.
    """
    if len(text) <= SLICE_BYTES and text.find(b"\\") < 0:  # one slice, in which every second part is a string
        structure = b"".join(text.split(b'"')[::2])
        return {character: structure.count(character) for character in VALUE_BYTES}
    counts, is_inside, start = dict.fromkeys(VALUE_BYTES, 0), 0, 0
    while start < len(text):
        end = start + SLICE_BYTES
        while end < len(text) and text[end - 1] == 0x5C:  # do not split an escape sequence
            end += 1
        parts = _without_escapes(text[start:end]).split(b'"')
        structure = b"".join(parts[is_inside::2])
        for character in counts:
            counts[character] += structure.count(character)
        is_inside ^= (len(parts) - 1) & 1
        start = end
    return counts


def _without_escapes(text: bytes) -> bytes:
    """Return a JSON text without its escaped quotes, and perhaps without other escape sequences."""
    has_many = any(part.count(b"\\") * BYTES_PER_ESCAPE > len(part) for part in (text[:SAMPLE_BYTES], text))
    if has_many:
        return text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return _ESCAPE.sub(b"", text)  # for few of them, this is several times faster


def text_width(text: bytes) -> int:
    """Return how many bytes CPython may need per character in the strings of a JSON text: 1, 2 or 4."""
    # ``in`` takes several times as long as ``find``, because it first tries to read the bytes as a number. And one byte
    # is found many times faster than two.
    is_escaped = text.find(b"\\") >= 0 and text.find(b"\\u") >= 0
    if text.isascii() and not is_escaped:
        return 1
    if any(lead in text for lead in (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")):
        return 4
    return 4 if is_escaped and (b"\\ud" in text or b"\\uD" in text) else 2
