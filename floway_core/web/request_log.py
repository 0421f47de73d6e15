"""What is known of a request when its last byte has left; one log line tells it."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from uuid6 import uuid7

from floway_core.engine.trace import RequestTrace
from floway_core.errors import GatewayError
from floway_core.protocol.responses import FAILED
from floway_core.protocol.usage import NO_TOKENS, Tokens, usage_of
from floway_core.runtime.log import StructuredMessage

log = logging.getLogger("floway.request")

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that did not wait; nobody receives it, but it stands in the log."""

LONGEST_WORD = 100
"""Characters of a text chosen by a client that stand in the log."""


@dataclass(eq=False)
class RequestLogEntry(StructuredMessage):
    """What is known of a request so far. Holds nothing secret and nothing of what was said."""

    method: str
    path: str
    route: str | None = None
    """The path as it is declared, with ``<names>``; None when there is nothing at ``path``."""
    id: str = field(default_factory=lambda: str(uuid7()))
    key: str | None = None
    """Name of the API key."""
    model: str | None = None
    """As the client asked for it, whether there is such a model or not."""
    metered: bool = False
    """Whether it asks for a response, which counts as usage of its key."""
    status: int = 0
    streamed: bool = False
    error: str | None = None
    """The code of the error that the client was told."""
    trace: RequestTrace = field(default_factory=RequestTrace)
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    """Seconds until the first byte of a stream was there to be sent."""
    on_close: list[Callable[["RequestLogEntry"], None]] = field(default_factory=list)
    """What else is to be done when the last byte has left, or the client is gone."""

    # ------------------------------------------------------------------------------------------- known from ``end`` on
    duration: float = 0
    """Seconds."""
    outcome: str | None = None
    """How the answer of an upstream ended: ``completed``, ``incomplete``, ``failed``, or ``cut`` without its end."""
    tokens: Tokens = NO_TOKENS
    tier: str = ""
    """The service tier that the upstream says it has served; empty if it says none."""

    def note_first_byte(self) -> None:
        self.first_byte = time.monotonic() - self.started

    def note_error(self, error: GatewayError) -> None:
        """Take the reason from what is told instead of an answer."""
        self.error = error.code or error.type

    def end(self) -> None:
        """Log the line, and do what is to be done at the end."""
        self.duration = time.monotonic() - self.started
        self._note_answer()
        serious = self.status >= 500 or self.outcome == "failed"
        log.log(logging.WARNING if serious else logging.INFO, self)
        for act in self.on_close:
            try:
                act(self)
            except Exception:  # the answer has left, and the others want their turn
                log.exception("After request %s", self.id)

    def _note_answer(self) -> None:
        events = self.trace.events
        if events is None:
            return
        response = events.response
        self.tokens = usage_of(response)
        tier = response.get("service_tier")
        self.tier = tier if isinstance(tier, str) else ""
        if self.status == CLIENT_CLOSED_REQUEST:
            self.outcome = "cut"
        elif self.status >= 400 or events.terminal == FAILED:
            self.outcome = "failed"
        elif events.terminal is None:
            self.outcome = "cut"
        else:
            self.outcome = events.terminal.removeprefix("response.")
        if events.terminal == FAILED and isinstance(error := response.get("error"), dict):
            self.error = self.error or str(error.get("code") or "upstream_failed")

    @property
    def failed(self) -> bool:
        """Whether the client did not get the answer that it asked for."""
        return self.status >= 400 or self.outcome in ("failed", "cut")

    @property
    def upstream(self) -> str | None:
        """Name of the upstream that was tried last."""
        return self.trace.tried[-1].upstream.name if self.trace.tried else None

    # ---------------------------------------------------------------------------------------------------- as a log line
    def fields(self) -> dict[str, Any]:
        return {
            "message": f"{self.method} {self.path[:LONGEST_WORD]} {self.status}",
            "request_id": self.id,
            "method": self.method,
            "path": self.path[:LONGEST_WORD],
            "route": self.route,
            "status": self.status,
            "duration_ms": _milliseconds(self.duration),
            "first_byte_ms": _milliseconds(self.first_byte),
            "key": self.key,
            "model": self.model and self.model[:LONGEST_WORD],
            "upstream": self.upstream,
            "attempts": len(self.trace.tried),
            "dispatches": self.trace.dispatches,
            "continued": self.trace.continued,
            "outcome": self.outcome,
            "error": self.error and self.error[:LONGEST_WORD],
            "input_tokens": self.tokens.input,
            "cached_tokens": self.tokens.cached,
            "output_tokens": self.tokens.output,
            "reasoning_tokens": self.tokens.reasoning,
        }

    def __str__(self) -> str:
        first = "-" if self.first_byte is None else f"{self.first_byte * 1000:.0f}ms"
        return (
            f"{self.method} {_word(self.path)} {self.status} {self.duration * 1000:.0f}ms id={self.id} "
            f"key={_word(self.key)} model={_word(self.model)} upstream={_word(self.upstream)} "
            f"attempts={len(self.trace.tried)} dispatches={self.trace.dispatches} first={first} "
            f"outcome={self.outcome or '-'} error={_word(self.error)} tokens={'/'.join(map(str, self.tokens))}"
        )


class LoggedBody:
    """A streamed answer whose request ends when its last byte has left, or the client is gone."""

    def __init__(self, pieces: Iterable[bytes | None], entry: RequestLogEntry) -> None:
        self._pieces = pieces
        self._entry = entry

    def __iter__(self) -> Iterator[bytes | None]:
        pieces = iter(self._pieces)
        first = next(pieces, b"")
        if first:
            self._entry.note_first_byte()
        return itertools.chain((first,), pieces)

    def close(self) -> None:
        try:
            if hasattr(self._pieces, "close"):
                self._pieces.close()
        finally:
            self._entry.end()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _word(text: str | None) -> str:
    """``text`` fit for one line: a client chose it."""
    if text is None:
        return "-"
    return text if text.isprintable() and " " not in text and len(text) <= LONGEST_WORD else repr(text[:LONGEST_WORD])
