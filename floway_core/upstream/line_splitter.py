"""Split a body with one JSON object in each line (NDJSON) into events while it arrives."""

from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext
from floway_core.upstream.body_splitter import MAX_BYTES


class LineSplitter:
    """Returns each line as the data of an event, so that what reads events can read it. Replaces ``BodySplitter``."""

    document = None
    """Always None: the body is never one document."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return the events of the lines that ``data`` completes; ``b""`` if there are none.

        :raises UpstreamBroken: a line is too long.
        """
        end = data.rfind(b"\n") + 1
        complete = b""
        if end:
            complete, self._rest = bytes(self._rest + data[:end]), bytearray()
        self._rest += data[end:]
        if len(self._rest) > MAX_BYTES:
            raise UpstreamBroken(f"A line of the upstream's response is longer than {MAX_BYTES} bytes.")
        return b"".join(map(_encode_event, complete.split(b"\n")))

    def last_event(self) -> bytes:
        """Return the event of the last line if only its line feed is missing; else ``b""``."""
        line = bytes(self._rest)
        try:
            return _encode_event(line) if isinstance(jsontext.loads(line), dict) else b""
        except ValueError:
            return b""

    def last_document(self) -> bytes:
        """Return ``b""``: the last line is all that remains."""
        return b""


def _encode_event(line: bytes) -> bytes:
    # Without a carriage return, which would end the data. In JSON it is only white space.
    line = line.replace(b"\r", b" ").strip()
    return b"data: %b\n\n" % line if line else b""
