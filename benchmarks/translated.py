"""The base of the checks of translated answers, whose events the gateway writes itself."""

from array import array
from typing import Any

from benchmarks import wire
from benchmarks.answers import WrongAnswer, parse_object


class TranslatedCheck:
    """Checks the events of one stream as they arrive."""

    def __init__(self, deltas: int, exact: bool, delays: array) -> None:
        """:param exact: not used: every gateway writes these events itself.
        :param delays: receives the nanoseconds from writing to receiving each delta.
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
            self.events += 1
            self._check_event(parse_object(content), now)

    def finish(self) -> None:
        """:raises WrongAnswer: something is missing."""
        raise NotImplementedError

    def _check_event(self, event: dict[str, Any], now: int) -> None:
        raise NotImplementedError

    def _check_text(self, text: str, now: int) -> None:
        """Check a piece of the text. Gateways may join or split what the upstream wrote; the text must be the same."""
        self._text += text
        *words, self._text = self._text.split(" ")
        for word in words:
            label, _, stamp = word.encode().partition(b".")
            if label + b"." != wire.label(self._count) or len(stamp) != wire.STAMP or not stamp.isdigit():
                raise WrongAnswer(f"delta {self._count} was due: {word!r}")
            self._delays.append(max(0, now - int(stamp)))
            self._count += 1
