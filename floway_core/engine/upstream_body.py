"""Reading the body of an upstream's 2xx response: events as they arrive, or one response object."""

import re
import time
from collections.abc import Iterator
from typing import Any

from floway_core.contexts import ClientConnection
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamFailed, UpstreamTimeout
from floway_core.protocol import jsontext, sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.failures import Failure, read_failure, visible_text
from floway_core.protocol.item_versions import normalize_item
from floway_core.protocol.responses import SUCCESSFUL, is_final_response
from floway_core.protocol.synthesis import synthesize_events
from floway_core.provider import UpstreamResponse
from floway_core.settings import Settings

MAX_EVENT_BYTES = 64 * 2**20
"""Limit for one event and for one JSON response. An event may hold a whole response with images."""

END_AFTER_ERROR_SECONDS = 2.0
"""How long an upstream may be silent after it has reported a failure."""

MISTYPED_BODY_SECONDS = 0.5
"""How long to wait for a body of the wrong type. Only an error text in it is of use."""

_EVENTS = re.compile(rb"(\xef\xbb\xbf)?\s*(event|data|id|retry)?:")
"""How a stream of events begins, whatever it calls itself."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def open_body(
    settings: Settings, response: UpstreamResponse, upstream: str, client: ClientConnection
) -> "EventBlocks | Iterator[bytes]":
    """Return the events of a response, whether it is a stream or a JSON object.

    :param upstream: name of the upstream, for error messages.
    :raises UpstreamFailed, UpstreamBroken, UpstreamTimeout: the body holds neither events nor a response object.
    :raises ClientDisconnected: ``client`` hung up meanwhile.
    """
    if is_event_stream(response):
        return EventBlocks(settings, response, upstream, client)
    return synthesize_events(read_response(settings, response, upstream, client))


def is_event_stream(response: UpstreamResponse) -> bool:
    """Return whether the body is declared as an event stream. Some upstreams leave the content type out."""
    content_type = response.header("content-type")
    return content_type is None or content_type.partition(";")[0].strip().lower() == "text/event-stream"


def read_response(
    settings: Settings, response: UpstreamResponse, upstream: str, client: ClientConnection
) -> dict[str, Any]:
    """Read a body that holds one response object.

    :param upstream: name of the upstream, for error messages.
    :raises UpstreamFailed, UpstreamBroken, UpstreamTimeout: the body is not a response object, or not complete.
    :raises ClientDisconnected: ``client`` hung up meanwhile.
    """
    content_type = response.header("content-type") or ""
    body, deadline = bytearray(), time.monotonic() + settings.total_timeout
    if not re.match(r"application/([\w.-]+\+)?json\b", content_type, re.IGNORECASE):
        body += response.body.read(MISTYPED_BODY_SECONDS, client) or b""
        if not _EVENTS.match(body):
            text = visible_text(bytes(body))
            raise UpstreamBroken(f"The upstream sent {content_type!r} instead of a response{text and f': {text}'}")
    while data := response.body.read(settings.idle_timeout, client):
        if time.monotonic() >= deadline:
            raise _total_timeout(upstream, settings.total_timeout)
        body += data
        if len(body) > MAX_EVENT_BYTES:
            raise UpstreamBroken(f"The upstream's response is longer than {MAX_EVENT_BYTES} bytes.")
    if data is None:
        raise _idle_timeout(upstream, settings.idle_timeout)
    return parse_response(bytes(body))


def parse_response(body: bytes) -> dict[str, Any]:
    """Return the response object in a complete body.

    :raises UpstreamFailed: the body holds an error instead.
    :raises UpstreamBroken: the body holds neither.
    """
    body = body.removeprefix(BYTE_ORDER_MARK).strip()
    if not body:
        raise UpstreamBroken("The upstream sent an empty body.")
    if _EVENTS.match(body):
        return _followed(body)
    try:
        value: Any = jsontext.loads(body)
    except ValueError:
        if body.startswith(b"<"):
            raise UpstreamBroken(f"The upstream sent an HTML page: {visible_text(body)}") from None
        raise UpstreamBroken("The upstream's response is not JSON.") from None
    if isinstance(value, dict) and isinstance(output := value.get("output"), list):
        value["output"] = [normalize_item(item) for item in output if isinstance(item, dict)]
    if isinstance(value, dict) and is_final_response(value):
        return value
    if isinstance(value, dict | list) and (failure := read_failure(value)):
        raise UpstreamFailed(failure)
    status = value.get("status") if isinstance(value, dict) else None
    if isinstance(status, str):
        raise UpstreamFailed(Failure(f"The upstream's response has the status {status[:50]!r}, which is not final."))
    raise UpstreamBroken("The upstream did not send a response object.")


def _followed(body: bytes) -> dict[str, Any]:
    """The response that a whole stream of events tells, which some send whatever they were asked for.

    :raises UpstreamFailed, UpstreamBroken: there is none.
    """
    events = ResponseAccumulator({}, rewrite=False)
    events.add_events(body + b"\n\n")
    if events.terminal in SUCCESSFUL:
        return events.response
    if events.failure:
        raise UpstreamFailed(events.failure)
    raise UpstreamBroken("The upstream ended its stream without a terminal event.")


class EventBlocks:
    """Iterates over blocks of complete events as they arrive.

    Yields None when a keep-alive is due. When ``blocking`` is False, it yields ``b""`` while nothing has arrived.
    Iterating raises

    - ``UpstreamBroken``, ``UpstreamFailed`` or ``UpstreamTimeout``: the stream broke off, fell silent or is no stream;
    - ``ClientDisconnected``: the client hung up.

    A body that is declared as an event stream and holds JSON is read as one response object.
    """

    def __init__(self, settings: Settings, response: UpstreamResponse, upstream: str, client: ClientConnection) -> None:
        """:param upstream: name of the upstream, for error messages."""
        self.blocking = True
        """Whether iterating waits for the upstream."""
        self.wait_until: float | None = None
        """A time of the monotonic clock at which a wait ends, so that the caller can check what has arrived."""
        self._settings = settings
        self._upstream = upstream
        self._body, self._client = response.body, client
        self._splitter = sse.EventSplitter(MAX_EVENT_BYTES)
        self._last_sent = self._last_received = time.monotonic()
        self._deadline = self._last_sent + settings.total_timeout
        self._idle_timeout = settings.idle_timeout
        self._pushed_back = b""
        self._error: GatewayError | None = None
        self._has_begun = self._has_ended = False
        self._document: bytearray | None = None
        """The bytes so far of a body that holds JSON or HTML instead of events."""

    def fileno(self) -> int | None:
        return self._body.fileno()

    def push_back(self, blocks: list[bytes], error: GatewayError | None) -> None:
        """Make the next iteration yield ``blocks`` again, and the one after it raise ``error``."""
        self._pushed_back, self._error = b"".join(blocks), error

    def expect_end(self) -> None:
        """Shorten the idle timeout: the upstream has reported a failure and has little more to send."""
        self._idle_timeout = min(self._idle_timeout, END_AFTER_ERROR_SECONDS)

    def __iter__(self) -> "EventBlocks":
        return self

    def __next__(self) -> bytes | None:
        if self._pushed_back:
            block, self._pushed_back = self._pushed_back, b""
            return block
        if self._error:
            raise self._error
        while not self._has_ended:
            data = self._body.read(self._wait_seconds() if self.blocking else 0, self._client)
            now = time.monotonic()
            if data == b"":
                self._has_ended = True
                if block := self._last_block():
                    return block
                break
            if now >= self._deadline:
                raise _total_timeout(self._upstream, self._settings.total_timeout)
            if data is None:
                return self._idle(now)
            self._last_received = self._last_sent = now
            block = self._feed(data)
            if block or not self.blocking:
                return block
        raise StopIteration

    def _feed(self, data: bytes) -> bytes:
        if not self._has_begun:
            self._detect_format(data)
        if self._document is not None:
            self._document += data
            if len(self._document) > MAX_EVENT_BYTES:
                raise UpstreamBroken(f"The upstream's response is longer than {MAX_EVENT_BYTES} bytes.")
            return b""
        try:
            return self._splitter.feed(data).removeprefix(BYTE_ORDER_MARK)
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's stream is unreadable: {error}.") from None

    def _detect_format(self, data: bytes) -> None:
        """Tell by its first bytes whether the body holds events."""
        first = data.removeprefix(BYTE_ORDER_MARK).lstrip()
        if first:
            self._has_begun = True
            if first[:1] in b"{[<":
                self._document = bytearray()

    def _last_block(self) -> bytes:
        """Return the events that only the end of the body completes: one without its empty line, or a document's."""
        if self._document is not None:
            return b"".join(synthesize_events(parse_response(bytes(self._document))))
        rest = self._splitter.rest.removeprefix(BYTE_ORDER_MARK)
        try:
            complete = isinstance(jsontext.loads(sse.parse(rest)[1]), dict)
        except ValueError:
            complete = False
        return rest + b"\n\n" if complete else b""

    def _wait_seconds(self) -> float:
        """Return the seconds until the next keep-alive, timeout or check is due."""
        now = time.monotonic()
        ends = [self._last_received + self._idle_timeout, self._deadline]
        if self.wait_until is not None:
            ends.append(self.wait_until)
        return max(0.0, min(self._settings.keepalive_interval, *(end - now for end in ends)))

    def _idle(self, now: float) -> bytes | None:
        """Return what to yield after a read that brought nothing.

        :raises UpstreamTimeout: the upstream has been silent for too long.
        """
        if now - self._last_received >= self._idle_timeout:
            raise _idle_timeout(self._upstream, self._idle_timeout)
        if not self.blocking and now - self._last_sent < self._settings.keepalive_interval:
            return b""
        self._last_sent = now
        return None


def _idle_timeout(upstream: str, seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The upstream {upstream!r} has been silent for {seconds:g} seconds.")


def _total_timeout(upstream: str, seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The upstream {upstream!r} has not finished within {seconds:g} seconds.")
