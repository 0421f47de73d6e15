"""Server-sent events as bytes: cutting a stream into events, reading one, writing one."""

import re

KEEPALIVE = b": keepalive\n\n"
DONE = b"data: [DONE]\n\n"

# An event ends with an empty line. Lines end with LF or CRLF; nobody sends the bare CR that the standard allows too.
_BOUNDARY = re.compile(rb"\n\r?\n")


class EventSplitter:
    """Collects bytes until events are complete."""

    def __init__(self, longest: int) -> None:
        """:param longest: bytes that one event may have."""
        self._longest = longest
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All events that ``data`` completes, unchanged; what follows them is kept for the next call.

        :raises ValueError: an event is longer than allowed.
        """
        end = _end_of_last(data, 0)
        if not self._rest:
            if end == len(data):
                return data
            complete, rest = data[:end], data[end:]
            self._rest += rest
        else:
            searched = max(0, len(self._rest) - 2)
            self._rest += data
            end = _end_of_last(self._rest, searched)
            complete = bytes(self._rest[:end])
            del self._rest[:end]
        if len(self._rest) > self._longest:
            raise ValueError(f"an event is longer than {self._longest} bytes")
        return complete

    def rest(self) -> bytes:
        """What has come after the last complete event. It is not kept any longer."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest


def split(block: bytes) -> list[bytes]:
    """The events of a block of complete ones, each with the empty line at its end."""
    ends = [found.end() for found in _BOUNDARY.finditer(block)]
    starts = [0, *ends]
    return [block[start:end] for start, end in zip(starts, [*ends, len(block)], strict=True) if start < end]


def _end_of_last(data: bytes | bytearray, start: int, end: int | None = None) -> int:
    """Where the last event that is complete in ``data[start:end]`` ends; 0 when there is none."""
    plain, mixed = data.rfind(b"\n\n", start, end), data.rfind(b"\n\r\n", start, end)
    return max(plain + 2 if plain >= 0 else 0, mixed + 3 if mixed >= 0 else 0)


def around(block: bytes, place: int, least: int) -> tuple[int, int]:
    """Where the event at ``place`` in a block of complete ones begins and ends.

    :param least: it does not begin before this.
    """
    start = max(least, _end_of_last(block, least, place))
    after = _BOUNDARY.search(block, place)
    return start, after.end() if after else len(block)


def parse(event: bytes) -> tuple[str | None, bytes]:
    """The name and the data of one event; no name is None, no data is ``b""``."""
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
    """An event with one line of data."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
