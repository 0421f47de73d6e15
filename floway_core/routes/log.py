"""What is known of a request when its last byte has left; one log line tells it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from uuid6 import uuid7

from floway_core.errors import GatewayError
from floway_core.protocol.responses import FAILED, Transcript, usage_of

log = logging.getLogger("floway.request")


@dataclass
class RequestLog:
    """What is known of a request so far. Holds nothing secret and nothing of what was said."""

    method: str
    path: str
    id: str = field(default_factory=lambda: str(uuid7()))
    key: str = "-"
    model: str = "-"
    upstream: str = "-"
    dispatches: int = 0
    status: int = 0
    streamed: bool = False
    outcome: str = "-"
    """How the answer ended: the last word of its terminal event, or ``cut``."""
    error: str = "-"
    """The code of the error that the client was told."""
    tokens: tuple[int, int, int] = (0, 0, 0)
    """Input, cached input, output."""
    started: float = field(default_factory=time.monotonic)
    at_end: list[Callable[["RequestLog"], None]] = field(default_factory=list)
    """What else is to be done when the last byte has left, or the client is gone."""

    def note_answer(self, transcript: Transcript) -> None:
        """Take outcome and usage from what the upstream told."""
        terminal = transcript.terminal
        self.outcome = terminal.removeprefix("response.") if terminal else str(transcript.envelope.get("status", "cut"))
        if self.streamed and not terminal:
            self.outcome = "cut"
        self.tokens = usage_of(transcript.envelope)
        if terminal == FAILED and isinstance(told := transcript.envelope.get("error"), dict):
            self.error = str(told.get("code"))

    def note_error(self, error: GatewayError) -> None:
        """Take the reason, and who gave it, from what is told instead of an answer."""
        self.error = error.code or error.type
        if error.upstream:
            self.upstream, self.dispatches = error.upstream, error.dispatches

    def end(self) -> None:
        """Log the line, and do what is to be done at the end."""
        self._write()
        for act in self.at_end:
            try:
                act(self)
            except Exception:  # the answer has left, and the others want their turn
                log.exception("After request %s", self.id)

    def _write(self) -> None:
        milliseconds = (time.monotonic() - self.started) * 1000
        log.log(
            logging.WARNING if self.status >= 500 or self.outcome == "failed" else logging.INFO,
            "%s %s %d %.0fms id=%s key=%s model=%s upstream=%s dispatches=%d outcome=%s error=%s tokens=%d/%d/%d",
            self.method, _word(self.path), self.status, milliseconds, self.id, _word(self.key), _word(self.model),
            _word(self.upstream), self.dispatches, _word(self.outcome), _word(self.error), *self.tokens,
        )  # fmt: skip


def _word(text: str) -> str:
    """``text`` fit for one line: a client chose it."""
    return text if text.isprintable() and " " not in text and len(text) <= 100 else repr(text[:100])
