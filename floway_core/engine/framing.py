"""Write a stream in the framing of its dialect: the data of each event becomes one element."""

from collections.abc import Iterator

from floway_core.dialect import StreamFraming
from floway_core.protocol import sse


class StreamFramer:
    """Frames the events of one stream."""

    def __init__(self, framing: StreamFraming) -> None:
        self._framing = framing
        self._count = 0
        """Elements written."""
        self._has_begun = self._has_ended = False

    def frame(self, events: bytes, *, is_last: bool = False) -> bytes:
        """Return events as elements, with opening, separators and closing.

        :param events: complete ones.
        :param is_last: whether the stream ends with them.
        """
        if self._has_ended or not (events or is_last):
            return b""
        framing, parts = self._framing, []
        if not self._has_begun:
            self._has_begun = True
            parts.append(framing.opening)
        for element in _elements(events):
            parts += [framing.separator, element] if self._count else [element]
            self._count += 1
        if is_last:
            self._has_ended = True
            parts.append(framing.closing)
        return b"".join(parts)


def _elements(events: bytes) -> Iterator[bytes]:
    """Yield the data of events, without comments. A plain JSON object between the events, the form of an error of some
    upstreams, is an element, too."""
    for event in sse.split(events):
        _, data = sse.parse(event)
        text = event.strip()
        if element := data or (text if text.startswith(b"{") else b""):
            yield element
