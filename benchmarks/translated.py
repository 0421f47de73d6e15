"""What checks of answers share whose events the gateway writes itself, because it translates them."""

from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, parse_object


class TranslatedCheck:
    """Takes the events of one stream as they come."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        """:param exact: not used: every gateway writes these events itself.
        :param delays: where the nanoseconds from writing to receiving each delta go.
        """
        self._deltas, self._delays = deltas, delays
        self._rest, self._text = b"", ""
        self._count = self.events = 0
        self.id = ""

    def feed(self, data: bytes, now: int) -> None:
        """:param now: when ``data`` was received, in nanoseconds of the monotonic clock.
        :raises WrongAnswer: something is lost, out of order or altered.
        """
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            content = event.partition(b"data:")[2]
            if not content:
                continue
            found = parse_object(content)
            self.events += 1
            self._take(found, now)

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        raise NotImplementedError

    def _take(self, found: dict[str, Any], now: int) -> None:
        raise NotImplementedError

    def _add(self, text: str, now: int) -> None:
        """Take a text. Gateways may join or split what the upstream wrote; the text must be the same."""
        self._text += text
        *words, self._text = self._text.split(" ")
        for word in words:
            label, _, stamp = word.encode().partition(b".")
            if label + b"." != wire.label(self._count) or len(stamp) != wire.STAMP or not stamp.isdigit():
                raise WrongAnswer(f"delta {self._count} was due: {word!r}")
            self._delays.append(max(0, now - int(stamp)))
            self._count += 1
