"""Server-sent events as bytes: split a stream into events, parse and encode an event."""

import re
from collections.abc import Iterator

KEEPALIVE = b": keepalive\n\n"
DONE = b"data: [DONE]\n\n"

# An event ends with an empty line. Lines end with LF or CRLF; no upstream sends the bare CR that the standard allows.
_BOUNDARY = re.compile(rb"\n\r?\n")


class EventSplitter:
    """Buffers the bytes of a stream until events are complete."""

    def __init__(self, max_event_bytes: int) -> None:
        """:param max_event_bytes: size that one event may have."""
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return all events that ``data`` completes, unchanged. Further bytes are buffered for the next call.

        :raises ValueError: an event is longer than allowed.
        """
        if not self._buffer:
            end = _find_last_end(data, 0)
            if end == len(data):
                return data
            complete, rest = data[:end], data[end:]
            self._buffer += rest
        else:
            start = max(0, len(self._buffer) - 2)  # an empty line may be split over two reads
            self._buffer += data
            end = _find_last_end(self._buffer, start)
            complete = bytes(memoryview(self._buffer)[:end])
            del self._buffer[:end]
        if len(self._buffer) > self._max_event_bytes:
            raise ValueError(f"an event is longer than {self._max_event_bytes} bytes")
        return complete

    @property
    def rest(self) -> bytes:
        """The start of an event that is not complete yet."""
        return bytes(self._buffer)


def _find_last_end(data: bytes | bytearray, start: int) -> int:
    """Return the position after the last event that ends in ``data[start:]``; 0 if none does."""
    lf = data.rfind(b"\n\n", start)
    crlf = data.rfind(b"\n\r\n", max(start, lf))  # not before the other one: without a match all would be searched
    return max(lf + 2 if lf >= 0 else 0, crlf + 3 if crlf >= 0 else 0)


def parse(event: bytes) -> tuple[str | None, bytes]:
    """Return name and data of one event; without a name None, without data ``b""``."""
    name, data = None, []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            data.append(value)
    return name, b"\n".join(data)


def encode(name: str, data: bytes) -> bytes:
    """Encode an event with one line of data."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def split(block: bytes) -> list[bytes]:
    """Split a block of complete events into single events. Joined, they are the block again."""
    if b"\r" not in block:  # the usual case, several times faster
        if block.find(b"\n\n") == len(block) - 2:  # a single one, which may be large, is not copied
            return [block]
        *complete, rest = block.split(b"\n\n")
        events = [event + b"\n\n" for event in complete]
        return [*events, rest] if rest else events
    events, start = [], 0
    for boundary in _BOUNDARY.finditer(block):
        events.append(block[start : boundary.end()])
        start = boundary.end()
    if start < len(block):
        events.append(block[start:])
    return events


def bounds(block: bytes, position: int) -> tuple[int, int]:
    """Return start and end of the event around ``position`` in a block of complete events."""
    begin = _find_last_end(block[:position], 0) if b"\r" in block else block.rfind(b"\n\n", 0, position) + 2
    boundary = _BOUNDARY.search(block, position)
    return begin if begin > 1 else 0, boundary.end() if boundary else len(block)


def iterate(block: bytes) -> Iterator[tuple[str | None, bytes]]:
    """Yield the result of ``parse`` for each event in a block. Comments have neither name nor data."""
    return map(parse, split(block))


def replace_event(old: bytes, new: bytes) -> bytes:
    """Return the event ``new`` after the empty lines at the start of ``old``."""
    lines = len(old) - len(old.lstrip(b"\r\n"))
    return old[:lines] + new.lstrip(b"\r\n")
