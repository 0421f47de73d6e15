"""Split the body of a response into events while it arrives, or collect it if it is a document."""

from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext, sse

MAX_BYTES = 64 * 2**20
"""Limit for one event and for one document. An event may hold a whole response with images."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BodySplitter:
    """Processes the chunks of a body, and returns its events.

    Its first bytes decide whether it consists of events or is a document, such as JSON or HTML: upstreams may answer a
    request for a stream with a document, and vice versa. A byte order mark is dropped.
    """

    def __init__(self) -> None:
        self.document: bytearray | None = None
        """The document so far; None if the body consists of events, or is empty so far."""
        self._splitter = sse.EventSplitter(MAX_BYTES)
        self._has_begun = False
        self._beginning: bytes | None = b""
        """What may be the start of a byte order mark; None once that is decided."""

    def feed(self, data: bytes) -> bytes:
        """Return the events that ``data`` completes; ``b""`` if there are none.

        :raises UpstreamBroken: an event or the document is too long.
        """
        if self._beginning is not None:
            data = self._beginning + data
            if len(data) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(data):
                self._beginning = data
                return b""
            data, self._beginning = data.removeprefix(BYTE_ORDER_MARK), None
        if not self._has_begun:
            self._detect_format(data)
        if self.document is not None:
            self.document += data
            if len(self.document) > MAX_BYTES:
                raise UpstreamBroken(f"The upstream's response is longer than {MAX_BYTES} bytes.")
            return b""
        try:
            return self._splitter.feed(data)
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's stream is unreadable: {error}.") from None

    def _detect_format(self, data: bytes) -> None:
        first = data.lstrip()
        if first:
            self._has_begun = True
            if first[:1] in b"{[<":
                self.document = bytearray()

    @property
    def rest(self) -> bytes:
        """The bytes after the last complete event."""
        return self._splitter.rest

    def last_event(self) -> bytes:
        """Return the last event if only its final empty line is missing; else ``b""``."""
        if not self.rest:  # nearly always
            return b""
        data = sse.parse(self.rest)[1]
        return self._complete_event(data) if data.strip() != b"[DONE]" else self.rest + b"\n\n"

    def last_document(self) -> bytes:
        """Return a plain JSON object at the end of the body, the form of an error in some APIs; else ``b""``."""
        return self._complete_event(self.rest)

    def _complete_event(self, data: bytes) -> bytes:
        """Return the rest with an empty line if ``data`` is a JSON object, which means that it is complete."""
        try:
            return self.rest + b"\n\n" if isinstance(jsontext.loads(data), dict) else b""
        except ValueError:
            return b""
