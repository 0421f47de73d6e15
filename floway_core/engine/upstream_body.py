"""Read the body of an upstream's 2xx response: events while they arrive, or one response object."""

import logging
import re
import time
from typing import Any

from floway_core.contexts import ClientConnection
from floway_core.errors import ClientDisconnected, GatewayError, UpstreamBroken, UpstreamFailed, UpstreamTimeout
from floway_core.protocol import jsontext
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.failures import Failure, read_failure, visible_text
from floway_core.protocol.item_versions import normalize_item
from floway_core.protocol.responses import SUCCESSFUL, is_final_response
from floway_core.protocol.synthesis import synthesize_events
from floway_core.provider import ResponseBody, UpstreamResponse
from floway_core.runtime.plugin_calls import plugin_failure
from floway_core.settings import Settings
from floway_core.upstream.body_splitter import BYTE_ORDER_MARK, MAX_BYTES, BodySplitter

log = logging.getLogger("floway.plugins")

END_AFTER_ERROR_SECONDS = 2.0
"""How long an upstream may be silent after it has reported a failure."""

MAX_READ_BYTES = 2**20
"""Bytes of a body to read at once."""

DRAIN_TIMEOUT_SECONDS = 0.25
"""How long to wait for the end of a body after its terminal event, so that the connection can be reused."""

MISTYPED_BODY_SECONDS = 0.5
"""How long to wait for a body of the wrong type. Only an error text in it is useful."""

_EVENTS = re.compile(rb"(\xef\xbb\xbf)?\s*(event|data|id|retry)?:")
"""The start of a stream of events, whatever its declared type."""


def missing_terminal_event() -> UpstreamBroken:
    """Return the error for a stream that ends too early."""
    return UpstreamBroken("The upstream ended its stream without a terminal event.")


def drain(body: ResponseBody) -> None:
    """Read to the end of a body, which has usually arrived with the terminal event."""
    deadline = time.monotonic() + DRAIN_TIMEOUT_SECONDS
    try:
        while (remaining := deadline - time.monotonic()) > 0 and body.read(remaining):
            pass
    except (UpstreamBroken, ClientDisconnected):
        pass


def is_event_stream(response: UpstreamResponse) -> bool:
    """Return whether the body is declared as an event stream. Some upstreams omit the content type."""
    content_type = response.header("content-type")
    return content_type is None or content_type.partition(";")[0].strip().lower() == "text/event-stream"


def read_response(
    settings: Settings, response: UpstreamResponse, upstream: str, client: ClientConnection
) -> dict[str, Any]:
    """Read a body that contains one response object.

    :param upstream: name of the upstream, for error messages.
    :raises UpstreamFailed, UpstreamBroken, UpstreamTimeout: the body is not a response object, or not complete.
    :raises ClientDisconnected: ``client`` disconnected meanwhile.
    """
    content_type, beginning = response.header("content-type") or "", b""
    if not re.match(r"application/([\w.-]+\+)?json\b", content_type, re.IGNORECASE):
        beginning = _read_body(response.body, MISTYPED_BODY_SECONDS, upstream, client) or b""
        if not _EVENTS.match(beginning):
            text = visible_text(beginning)
            raise UpstreamBroken(f"The upstream sent {content_type!r} instead of a response{text and f': {text}'}")
    return parse_response(beginning + read_content(settings, response, upstream, client))


def read_content(settings: Settings, response: UpstreamResponse, upstream: str, client: ClientConnection) -> bytes:
    """Read a whole body, within the timeouts.

    :param upstream: name of the upstream, for error messages.
    :raises UpstreamBroken, UpstreamTimeout: the body is not complete, or too long.
    :raises ClientDisconnected: ``client`` disconnected meanwhile.
    """
    content, deadline = bytearray(), time.monotonic() + settings.total_timeout
    while data := _read_body(response.body, settings.idle_timeout, upstream, client):
        if time.monotonic() >= deadline:
            raise _total_timeout(upstream, settings.total_timeout)
        content += data
        if len(content) > MAX_BYTES:
            raise UpstreamBroken(f"The upstream's response is longer than {MAX_BYTES} bytes.")
    if data is None:
        raise _idle_timeout(upstream, settings.idle_timeout)
    return bytes(content)


def _read_body(body: ResponseBody, timeout: float, upstream: str, client: ClientConnection) -> bytes | None:
    """Read from a body, as ``ResponseBody.read``.

    :param upstream: name of the upstream, for the log.
    :raises GatewayError: 500, the body's own code failed; or as ``ResponseBody.read``.
    """
    try:
        return body.read(timeout, client)
    except (GatewayError, ClientDisconnected):
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        log.exception("The plugin of upstream %s failed in ResponseBody.read", upstream)
        raise plugin_failure() from error


def parse_response(body: bytes) -> dict[str, Any]:
    """Return the response object in a complete body.

    :raises UpstreamFailed: the body contains an error instead.
    :raises UpstreamBroken: the body contains neither.
    """
    body = body.removeprefix(BYTE_ORDER_MARK).strip()
    if not body:
        raise UpstreamBroken("The upstream sent an empty body.")
    if _EVENTS.match(body):
        return _parse_stream(body)
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


def _parse_stream(body: bytes) -> dict[str, Any]:
    """Return the response object in a complete stream of events. Some upstreams stream even if not requested.

    :raises UpstreamFailed, UpstreamBroken: there is none.
    """
    events = ResponseAccumulator({}, rewrite=False)
    events.add_events(body + b"\n\n")
    if events.terminal in SUCCESSFUL:
        return events.response
    if events.failure:
        raise UpstreamFailed(events.failure)
    raise missing_terminal_event()


class UpstreamBytes:
    """The bytes of a body, read as they arrive, within the timeouts."""

    def __init__(self, settings: Settings, response: UpstreamResponse, upstream: str, client: ClientConnection) -> None:
        """:param upstream: name of the upstream, for error messages."""
        self.has_ended = False
        """Whether the body has been read to its end."""
        self.read_at = time.monotonic()
        """When ``read`` last returned, in monotonic time."""
        self._settings = settings
        self._upstream = upstream
        self._body, self._client = response.body, client
        self._last_received = self.read_at
        self._deadline = self.read_at + settings.total_timeout
        self._idle_timeout = settings.idle_timeout
        self._error: UpstreamBroken | None = None
        """Why the body has broken off, after the bytes that were read."""

    def fileno(self) -> int | None:
        """Return the body's descriptor, as ``ResponseBody.fileno``."""
        return self._body.fileno()

    def read(self, timeout: float) -> bytes:
        """Return the bytes that have arrived; ``b""`` if there are none.

        :param timeout: seconds to wait until something arrives. With 0 the call never blocks.
        :raises UpstreamTimeout: the upstream has been silent, or the response has taken, for too long.
        :raises UpstreamBroken: the body broke off.
        :raises ClientDisconnected: the client disconnected meanwhile.
        """
        collected = bytearray()
        while not self._error and not self.has_ended and len(collected) < MAX_READ_BYTES:
            try:  # what follows may have arrived with it, and then the descriptor does not become readable again
                data = self._receive(self._limit(timeout) if timeout and not collected else 0.0)
            except UpstreamBroken as error:
                self._error = error
                break
            if data is None:
                break
            self.has_ended = not data
            collected += data
        if self._error and not collected:
            raise self._error
        self._check_deadline()
        if collected or self.has_ended:
            self._last_received = self.read_at
        self._check_silence()
        return bytes(collected)

    def _receive(self, timeout: float) -> bytes | None:
        return _read_body(self._body, timeout, self._upstream, self._client)

    def _limit(self, timeout: float) -> float:
        """Return ``timeout``, limited by the timeouts of the settings."""
        remaining = min(self._last_received + self._idle_timeout, self._deadline) - time.monotonic()
        return max(0.0, min(timeout, remaining))

    def _check_deadline(self) -> None:
        """:raises UpstreamTimeout: the response has taken for too long."""
        self.read_at = time.monotonic()
        if self.read_at >= self._deadline:
            raise _total_timeout(self._upstream, self._settings.total_timeout)

    def _check_silence(self) -> None:
        """:raises UpstreamTimeout: the upstream has been silent for too long."""
        if self.read_at - self._last_received >= self._idle_timeout:
            raise _idle_timeout(self._upstream, self._idle_timeout)


class UpstreamEvents(UpstreamBytes):
    """The events of a body that is declared as an event stream, read as they arrive, within the timeouts.

    A body that contains JSON despite its declaration is read as one response object.
    """

    def __init__(
        self,
        settings: Settings,
        response: UpstreamResponse,
        upstream: str,
        client: ClientConnection,
        *,
        verbatim: bool = False,
    ) -> None:
        """:param upstream: name of the upstream, for error messages.
        :param verbatim: whether the bytes after the last complete event are returned unchanged.
        """
        super().__init__(settings, response, upstream, client)
        self._splitter = BodySplitter()
        self._verbatim = verbatim
        self.has_more = False
        """Whether ``read`` has stopped in the middle of a large event, though more of it may have arrived."""

    def expect_end(self) -> None:
        """Shorten the idle timeout: the upstream has reported a failure and has little more to send."""
        self._idle_timeout = min(self._idle_timeout, END_AFTER_ERROR_SECONDS)

    def read(self, timeout: float) -> bytes:
        """Return the events that the arrived bytes complete; ``b""`` if there are none.

        :param timeout: seconds to wait until something arrives. With 0 the call never blocks.
        :raises UpstreamTimeout: the upstream has been silent, or the response has taken, for too long.
        :raises UpstreamBroken, UpstreamFailed: the body broke off or holds no events.
        :raises ClientDisconnected: the client disconnected meanwhile.
        """
        data, size = self._receive(self._limit(timeout) if timeout else 0.0), 0
        self.has_more = False
        while data:
            self._check_deadline()
            self._last_received = self.read_at
            if block := self._splitter.feed(data):
                if not self._body.has_ended:
                    return block
                self.has_ended = True  # nothing will make the descriptor readable
                return block + self._last_block()
            size += len(data)
            if size >= MAX_READ_BYTES:
                self.has_more = True
                return b""
            # What follows may have arrived with it, and then the descriptor does not become readable again.
            data = self._receive(0.0)
        if data == b"":
            self.has_ended = True
            return self._last_block()
        self._check_deadline()
        self._check_silence()
        return b""

    def _last_block(self) -> bytes:
        """Return the events that only the end of the body completes: an event without its empty line, or a document."""
        if self._splitter.document is not None:
            return b"".join(synthesize_events(parse_response(bytes(self._splitter.document))))
        return self._splitter.rest if self._verbatim else self._splitter.last_event()


def _idle_timeout(upstream: str, seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The upstream {upstream!r} has been silent for {seconds:g} seconds.")


def _total_timeout(upstream: str, seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The upstream {upstream!r} has not finished within {seconds:g} seconds.")
