"""Reading the body of an upstream's 2xx answer: events as they arrive, or one response object."""

import re
import time
from collections.abc import Iterator
from typing import Any

from floway_core.contexts import ClientConnection
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamFailed, UpstreamTimeout
from floway_core.protocol import jsontext, sse
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.failures import Failure, read_failure, visible_text
from floway_core.protocol.responses import SUCCESSFUL, is_final_response
from floway_core.protocol.synthesis import synthesize_events
from floway_core.protocol.versions import in_form
from floway_core.provider import UpstreamResponse
from floway_core.settings import Settings

MAX_EVENT_BYTES = 64 * 2**20
"""An event may hold a whole answer with images."""

END_AFTER_ERROR_SECONDS = 2.0
"""How long an upstream may be silent after it has said that it failed."""

MISTYPED_BODY_SECONDS = 0.5
"""How long to wait for a body of the wrong type, of which only the reason in it is of use."""

_EVENTS = re.compile(rb"(\xef\xbb\xbf)?\s*(event|data|id|retry)?:")
"""How a stream of events begins, whatever it calls itself."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def open_body(
    settings: Settings, reply: UpstreamResponse, upstream: str, client: ClientConnection
) -> "EventBlocks | Iterator[bytes]":
    """The events of an answer, whatever form it comes in.

    :param upstream: its name, for messages.
    :raises UpstreamFailed, UpstreamBroken, UpstreamTimeout: the answer is neither events nor a response.
    :raises ClientDisconnected: ``client`` hung up meanwhile.
    """
    if is_event_stream(reply):
        return EventBlocks(settings, reply, upstream, client)
    return synthesize_events(read_response(settings, reply, upstream, client))


def is_event_stream(reply: UpstreamResponse) -> bool:
    """Whether the answer says that it is one. Some upstreams leave the content type out."""
    kind = reply.header("content-type")
    return kind is None or kind.partition(";")[0].strip().lower() == "text/event-stream"


def read_response(
    settings: Settings, reply: UpstreamResponse, upstream: str, client: ClientConnection
) -> dict[str, Any]:
    """A response that comes in one piece.

    :raises UpstreamFailed, UpstreamBroken, UpstreamTimeout: it is none, or not complete.
    :raises ClientDisconnected: ``client`` hung up meanwhile.
    """
    kind = reply.header("content-type") or ""
    body, deadline = bytearray(), time.monotonic() + settings.total_timeout
    if not re.match(r"application/([\w.-]+\+)?json\b", kind, re.IGNORECASE):
        body += reply.body.read(MISTYPED_BODY_SECONDS, client) or b""
        if not _EVENTS.match(body):
            words = visible_text(bytes(body))
            raise UpstreamBroken(f"The upstream answered with {kind!r} instead of a response{words and f': {words}'}")
    while data := reply.body.read(settings.idle_timeout, client):
        if time.monotonic() >= deadline:
            raise _overtime(upstream, settings.total_timeout)
        body += data
        if len(body) > MAX_EVENT_BYTES:
            raise UpstreamBroken(f"The upstream's answer is longer than {MAX_EVENT_BYTES} bytes.")
    if data is None:
        raise _silence(upstream, settings.idle_timeout)
    return parse_response(bytes(body))


def parse_response(body: bytes) -> dict[str, Any]:
    """The response object that is the whole of a body.

    :raises UpstreamFailed: it says why there is none.
    :raises UpstreamBroken: it says nothing of use.
    """
    body = body.removeprefix(BYTE_ORDER_MARK).strip()
    if not body:
        raise UpstreamBroken("The upstream answered with an empty body.")
    if _EVENTS.match(body):
        return _followed(body)
    try:
        value = jsontext.loads(body)
    except ValueError:
        if body.startswith(b"<"):
            raise UpstreamBroken(f"The upstream answered with a page: {visible_text(body)}") from None
        raise UpstreamBroken("The upstream's answer is not JSON.") from None
    if isinstance(value, dict) and isinstance(output := value.get("output"), list):
        value["output"] = [in_form(item) for item in output if isinstance(item, dict)]
    if is_final_response(value):
        return value
    if isinstance(value, dict | list) and (failure := read_failure(value)):
        raise UpstreamFailed(failure)
    status = value.get("status") if isinstance(value, dict) else None
    if isinstance(status, str):
        raise UpstreamFailed(Failure(f"The upstream's response is {status[:50]!r}, which is no answer."))
    raise UpstreamBroken("The upstream's answer is no response object.")


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
    """Blocks of complete events as they arrive; None when a keep-alive is due, ``b""`` when nothing is there and nobody
    waits. Iterating raises

    - ``UpstreamBroken``, ``UpstreamFailed`` or ``UpstreamTimeout``: the stream ended early, fell silent or is none;
    - ``ClientDisconnected``: the client hung up.

    What calls itself a stream of events and is JSON is read as a response that comes in one piece.
    """

    def __init__(self, settings: Settings, reply: UpstreamResponse, upstream: str, client: ClientConnection) -> None:
        self.waits = True
        self.hold_until: float | None = None
        """A moment of the monotonic clock at which waiting ends, to see how far the stream has come."""
        self._settings = settings
        self._upstream = upstream
        self._body, self._client = reply.body, client
        self._splitter = sse.EventSplitter(MAX_EVENT_BYTES)
        self._last_sent = self._last_received = time.monotonic()
        self._deadline = self._last_sent + settings.total_timeout
        self._idle_timeout = settings.idle_timeout
        self._pushed_back = b""
        self._error: GatewayError | None = None
        self._begun = self._ended = False
        self._document: bytearray | None = None
        """What has come of a body that holds JSON or a page instead of events."""

    def fileno(self) -> int | None:
        return self._body.fileno()

    def push_back(self, blocks: list[bytes], error: GatewayError | None) -> None:
        """Have the next iteration give ``blocks`` once more, and the one after it raise ``error``."""
        self._pushed_back, self._error = b"".join(blocks), error

    def expect_end(self) -> None:
        """The upstream has said that it failed: do not wait long for it to say more."""
        self._idle_timeout = min(self._idle_timeout, END_AFTER_ERROR_SECONDS)

    def __iter__(self) -> "EventBlocks":
        return self

    def __next__(self) -> bytes | None:
        if self._pushed_back:
            block, self._pushed_back = self._pushed_back, b""
            return block
        if self._error:
            raise self._error
        while not self._ended:
            data = self._body.read(self._wait_seconds() if self.waits else 0, self._client)
            now = time.monotonic()
            if data == b"":
                self._ended = True
                if block := self._last_block():
                    return block
                break
            if now >= self._deadline:
                raise _overtime(self._upstream, self._settings.total_timeout)
            if data is None:
                return self._nothing(now)
            self._last_received = self._last_sent = now
            block = self._feed(data)
            if block or not self.waits:
                return block
        raise StopIteration

    def _feed(self, data: bytes) -> bytes:
        if not self._begun:
            self._begin(data)
        if self._document is not None:
            self._document += data
            if len(self._document) > MAX_EVENT_BYTES:
                raise UpstreamBroken(f"The upstream's answer is longer than {MAX_EVENT_BYTES} bytes.")
            return b""
        try:
            return self._splitter.feed(data).removeprefix(BYTE_ORDER_MARK)
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's stream is unreadable: {error}.") from None

    def _begin(self, data: bytes) -> None:
        """Find out by its first bytes whether the body holds events."""
        first = data.removeprefix(BYTE_ORDER_MARK).lstrip()
        if first:
            self._begun = True
            if first[:1] in b"{[<":
                self._document = bytearray()

    def _last_block(self) -> bytes:
        """What is left when the body has ended: an event without its empty line, or all of a document."""
        if self._document is not None:
            return b"".join(synthesize_events(parse_response(bytes(self._document))))
        rest = self._splitter.rest.removeprefix(BYTE_ORDER_MARK)
        try:
            complete = isinstance(jsontext.loads(sse.parse(rest)[1]), dict)
        except ValueError:
            complete = False
        return rest + b"\n\n" if complete else b""

    def _wait_seconds(self) -> float:
        """Until the client, or the upstream, has waited long enough."""
        now = time.monotonic()
        ends = [self._last_received + self._idle_timeout, self._deadline]
        if self.hold_until is not None:
            ends.append(self.hold_until)
        return max(0.0, min(self._settings.keepalive_interval, *(end - now for end in ends)))

    def _nothing(self, now: float) -> bytes | None:
        if now - self._last_received >= self._idle_timeout:
            raise _silence(self._upstream, self._idle_timeout)
        if not self.waits and now - self._last_sent < self._settings.keepalive_interval:
            return b""
        self._last_sent = now
        return None


def _silence(upstream: str, seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The upstream {upstream!r} has been silent for {seconds:g} seconds.")


def _overtime(upstream: str, seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The upstream {upstream!r} has not finished within {seconds:g} seconds.")
