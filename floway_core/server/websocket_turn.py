"""One message on a WebSocket: its request and its answer. Threads and the loop send the answer in turn."""

import logging
import threading
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

from websockets.frames import CloseCode

from floway_core.engine.answer_stream import AnswerStream
from floway_core.engine.client_stream import StreamState
from floway_core.server.websocket_connection import WebSocketConnection
from floway_core.web.request_log import CLIENT_CLOSED_REQUEST
from floway_core.web.websocket import encode_error, encode_metadata

if TYPE_CHECKING:
    from floway_core.server.websocket_loop import WebSocketLoop

log = logging.getLogger("floway.streaming")

MAX_UNSENT_BYTES = 256 * 1024
"""Bytes that a thread hands to the loop before it waits until the client has accepted them."""

INTERRUPTED = "interrupted"
"""The reason of a response that its client has ended."""


class WebSocketTurn:
    """A message and its answer. Either a thread has it, or the loop, while it relays the answer's events."""

    def __init__(
        self, loop: "WebSocketLoop", connection: WebSocketConnection, application: WSGIApplication, message: bytes
    ) -> None:
        self.connection = connection
        self.answer: AnswerStream | None = None
        self.upstream: int | None = None
        """The descriptor of the upstream while the loop has the turn; None while a thread has it."""
        self.is_watched = False
        """Whether the loop waits for the upstream."""
        self.is_interrupted = False
        """Whether the client has interrupted the response. Set by the loop."""
        self.is_cancelled = False
        """Whether the client has disconnected. Set by the loop."""
        self._loop = loop
        self._application = application
        self._message: bytes | None = message
        self._body: Iterable[bytes] = ()
        self._unacknowledged_bytes = 0

    # -------------------------------------------------------------------------------------------------- in a thread
    def run(self) -> None:
        """Let the application answer the message."""
        message, self._message = self._message, None
        assert message is not None
        try:
            if not _is_text(message):
                self._close(CloseCode.INVALID_DATA, "A message is not valid UTF-8.")
                self.end()
                return
            status, headers = self._call_application(message)
            del message
            if isinstance(self._body, AnswerStream):
                self.answer = self._body
                if self.connection.session.wants_metadata:
                    self._send_text(encode_metadata(headers))
            elif status < 400:
                self._send(b"".join(self._body))
            elif status != CLIENT_CLOSED_REQUEST:
                self._send_text(encode_error(status, headers, b"".join(self._body)))
        except Exception as error:  # noqa: BLE001 - logged there
            self._fail(error)
            return
        if self.answer is None:
            self.end()
        else:
            self.resume()

    def resume(self, *, waits: bool = False) -> None:
        """Send the answer until it must wait for its upstream, or until it has ended.

        :param waits: whether to wait here instead of in the loop.
        """
        answer = self.answer
        assert answer is not None
        try:
            upstream = None if waits else answer.fileno()
            while answer.state is not StreamState.ENDED and not self.is_cancelled:
                if self.is_interrupted:
                    answer.interrupt(INTERRUPTED)
                if sent := answer.advance(wait=upstream is None):
                    self._send(sent)
                elif upstream is not None and answer.state is StreamState.WAITING:
                    self._loop.relay(self, upstream)
                    return
        except Exception as error:  # noqa: BLE001 - logged there
            self._fail(error)
            return
        self.end()

    def _fail(self, error: Exception) -> None:
        """End the turn and the connection after an exception."""
        log.error("Answering a message on a WebSocket failed", exc_info=error)
        self._close(CloseCode.INTERNAL_ERROR, "The gateway failed to serve this message.")
        self.end()

    def end(self) -> None:
        """Close the answer. The connection then goes on to its next message."""
        try:
            if close := getattr(self._body, "close", None):
                close()
        except Exception:
            log.exception("Ending a message on a WebSocket failed")
        self._loop.finish(self)

    @property
    def response_id(self) -> str:
        """The id of the response; empty if it is not known yet."""
        return str(self.answer.events.response.get("id", "")) if self.answer else ""

    def _call_application(self, message: bytes) -> tuple[int, list[tuple[str, str]]]:
        """Set the body, and return status and headers of the answer."""
        head: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            head[:] = int(status.split()[0]), headers

        self._body = self._application(self.connection.session.request_environ(message), start_response)
        return head[0], head[1]

    def _send(self, block: bytes) -> None:
        """Send events. Waits if the client has not accepted the previous ones."""
        self._loop.call(self.connection, partial(self.connection.send_events, block))
        self._unacknowledged_bytes += len(block)
        if self._unacknowledged_bytes >= MAX_UNSENT_BYTES:
            sent = threading.Event()
            self._loop.call(self.connection, partial(self._loop.notify_when_sent, self.connection, sent))
            sent.wait()
            self._unacknowledged_bytes = 0

    def _send_text(self, text: bytes) -> None:
        self._loop.call(self.connection, partial(self.connection.send_text, text))

    def _close(self, code: int, reason: str) -> None:
        self._loop.call(self.connection, partial(self.connection.close, code, reason))


def _is_text(message: bytes) -> bool:
    """Return whether a message is valid UTF-8, which the protocol demands."""
    try:
        message.isascii() or message.decode()
    except UnicodeDecodeError:
        return False
    return True
