"""The log line of a request, written when its last byte has been sent."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from uuid6 import uuid7

from floway_core.engine.answer_stream import RESPONSES_FORMAT
from floway_core.engine.client_stream import ClientStream
from floway_core.engine.costs import cost_of
from floway_core.engine.trace import RequestTrace
from floway_core.errors import GatewayError
from floway_core.prices import Price
from floway_core.protocol.responses import FAILED
from floway_core.protocol.usage import NO_TOKENS, Tokens, usage_of
from floway_core.runtime.log import StructuredMessage

log = logging.getLogger("floway.request")

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that disconnected before the response. It is logged and never sent."""

MAX_LOGGED_CHARACTERS = 100
"""Longer texts of a client are cut off in the log."""


@dataclass(eq=False)
class RequestLogEntry(StructuredMessage):
    """The log entry of a request. It contains no secrets and no text of the conversation."""

    method: str
    path: str
    route: str | None = None
    """The rule of the route, with ``<names>``; None if no route matches ``path``."""
    id: str = field(default_factory=lambda: str(uuid7()))
    key: str | None = None
    """Name of the API key."""
    model: str | None = None
    """The model in the request, whether it exists or not."""
    dialect: str = RESPONSES_FORMAT.dialect
    """The API format of the client."""
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    """Those of ``TRACE_HEADERS`` that the client has sent."""
    metered: bool = False
    """Whether the request counts as usage of its key."""
    status: int = 0
    streamed: bool = False
    transport: str = "http"
    """``websocket`` if the request came as a message of one."""
    error: str | None = None
    """The code of the error that was sent to the client."""
    trace: RequestTrace = field(default_factory=RequestTrace)
    started: float = field(default_factory=time.monotonic)
    first_byte: float | None = None
    """Seconds until the first byte of a stream was ready to be sent."""
    on_close: list[Callable[["RequestLogEntry"], None]] = field(default_factory=list)
    """Called when the last byte has been sent or the client has disconnected."""
    shared_callbacks: int = 0
    """The number of callbacks at the start of ``on_close`` that are called for every request."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """The operator's price table."""
    is_handed_over: bool = False
    """Whether the response is created in the background, and has a separate entry."""

    # ------------------------------------------------------------------------------------------------- set by ``end``
    duration: float = 0
    """Seconds."""
    outcome: str | None = None
    """How the upstream's response ended: ``completed``, ``incomplete``, ``failed``, or ``cut`` off before its end."""
    tokens: Tokens = NO_TOKENS
    tier: str = ""
    """The service tier that the upstream reports; empty if it reports none."""
    cost_usd: float | None = None
    """The cost of the tokens; None if their price is unknown."""

    def note_first_byte(self) -> None:
        """Record that the first byte of the stream is ready."""
        self.first_byte = time.monotonic() - self.started

    def hand_over(self) -> None:
        """Hand callbacks and counts at the end over to the entry of the background response.

        For log and metrics, this entry then is a request without an upstream.
        """
        self.trace, self.metered, self.is_handed_over = RequestTrace(), False, True
        self.on_close = self.on_close[: self.shared_callbacks]

    def note_error(self, error: GatewayError) -> None:
        """Record the error that is sent to the client."""
        self.error = error.code or error.type

    def end(self) -> None:
        """Write the log line and call ``on_close``."""
        self.duration = time.monotonic() - self.started
        self._read_result()
        is_serious = self.status >= 500 or self.outcome == "failed"
        log.log(logging.WARNING if is_serious else logging.INFO, self)
        for callback in self.on_close:
            try:
                callback(self)
            except Exception:  # the response has been sent, and the other callbacks still have to run
                log.exception("After request %s", self.id)

    def _read_result(self) -> None:
        """Read outcome, tokens and error from the upstream's response."""
        events = self.trace.events
        if events is None:
            return
        response = events.response
        self.tokens = usage_of(response)
        tier = response.get("service_tier")
        self.tier = tier if isinstance(tier, str) else ""
        self.cost_usd = cost_of(self.prices, self.trace, self.tokens, self.tier)
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
        """Whether the client did not get a complete response."""
        return self.status >= 400 or self.outcome in ("failed", "cut")

    @property
    def upstream(self) -> str | None:
        """Name of the upstream of the last attempt."""
        candidate = self.trace.candidate
        return candidate.upstream.name if candidate else None

    def _describe_cost(self) -> str:
        if self.cost_usd is not None:
            return f"{self.cost_usd:.6f}"
        return "unknown" if any(self.tokens) else "-"

    # -------------------------------------------------------------------------------------------------------- log line
    def fields(self) -> dict[str, Any]:
        """Return the values of the log line, as ``StructuredMessage`` describes."""
        return {
            "message": f"{self.method} {self.path[:MAX_LOGGED_CHARACTERS]} {self.status}",
            "request_id": self.id,
            "method": self.method,
            "path": self.path[:MAX_LOGGED_CHARACTERS],
            "route": self.route,
            "dialect": self.dialect,
            "transport": self.transport,
            "status": self.status,
            "duration_ms": _milliseconds(self.duration),
            "first_byte_ms": _milliseconds(self.first_byte),
            "key": self.key,
            "model": self.model and self.model[:MAX_LOGGED_CHARACTERS],
            "upstream": self.upstream,
            "attempts": len(self.trace.attempts),
            "dispatches": self.trace.dispatches,
            "continued": self.trace.continued,
            "outcome": self.outcome,
            "error": self.error and self.error[:MAX_LOGGED_CHARACTERS],
            "input_tokens": self.tokens.input,
            "cached_tokens": self.tokens.cached,
            "output_tokens": self.tokens.output,
            "reasoning_tokens": self.tokens.reasoning,
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 9),
        }

    def __str__(self) -> str:
        first = "-" if self.first_byte is None else f"{self.first_byte * 1000:.0f}ms"
        return (
            f"{self.method} {_quote(self.path)} {self.status} {self.duration * 1000:.0f}ms id={self.id} "
            f"key={_quote(self.key)} model={_quote(self.model)} upstream={_quote(self.upstream)} "
            f"attempts={len(self.trace.attempts)} dispatches={self.trace.dispatches} first={first} "
            f"outcome={self.outcome or '-'} error={_quote(self.error)} tokens={'/'.join(map(str, self.tokens))} "
            f"cost={self._describe_cost()}"
        )


class ClosingBody:
    """A body that is not a ``ClientStream``. It calls a function when it is closed."""

    def __init__(self, chunks: Iterable[bytes], closed: Callable[[], None]) -> None:
        """:param closed: as in ``ClientStream.subscribe``."""
        self._chunks = chunks
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)

    def close(self) -> None:
        """Close the view's body, and call ``closed``."""
        try:
            if hasattr(self._chunks, "close"):
                self._chunks.close()
        finally:
            self._closed()


class OtherStream(ClosingBody):
    """A streamed body that is not a ``ClientStream``, with the same callbacks."""

    def __init__(self, chunks: Iterable[bytes], first_byte: Callable[[], None], closed: Callable[[], None]) -> None:
        """:param first_byte, closed: as in ``ClientStream.subscribe``."""
        super().__init__(chunks, closed)
        self._first_byte = first_byte

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._chunks)
        for first in chunks:
            self._first_byte()
            return itertools.chain((first,), chunks)
        return chunks


def watch_stream(body: Iterable[bytes], entry: RequestLogEntry) -> Iterable[bytes]:
    """End ``entry`` when a streamed body is closed: after the last byte, or when the client disconnects.

    :returns: the body to send instead.
    """
    if isinstance(body, ClientStream):
        body.subscribe(first_byte=entry.note_first_byte, closed=entry.end)
        return body
    return OtherStream(body, entry.note_first_byte, entry.end)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _quote(text: str | None) -> str:
    """Return a client's text for the log, quoted if necessary to keep it in one line, and cut off."""
    if text is None:
        return "-"
    return (
        text
        if text.isprintable() and " " not in text and len(text) <= MAX_LOGGED_CHARACTERS
        else repr(text[:MAX_LOGGED_CHARACTERS])
    )
