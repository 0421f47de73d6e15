"""The Responses API over a WebSocket: open one, and convert messages of the client to requests.

The server keeps the connection (``server/websocket_loop.py``). Each message becomes a request of the WSGI application,
as if it had been posted. So keys, limits, log and metrics are the same, and the engine does not know WebSockets.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flask import Response
from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.server import ServerProtocol

from floway_core.conversation.unstored import UnstoredResponses
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.headers import UNDERSCORED
from floway_core.responses_dialect import ResponsesDialect
from floway_core.runtime.dialects import Endpoint
from floway_core.runtime.gateway import Gateway
from floway_core.web import STREAM_HEADERS
from floway_core.web.auth import authenticate
from floway_core.web.fast_flask import PreparedResponse
from floway_core.web.gateway_request import GatewayRequest

OFFERED = "floway.websocket_offered"
"""Key of the WSGI environment: whether the server can take over the connection for a WebSocket."""

SESSION = "floway.websocket"
"""Key of the WSGI environment for the session of a request that came as a message."""

CREATE = "response.create"
INTERRUPTS = ("response.interrupt", "response.cancel")
"""Types of messages that end the running response."""

MAX_INTERRUPT_BYTES = 4096
"""Longer messages are not interrupts. The server's loop parses only shorter ones."""

METADATA_OPT_IN = "responses_websockets="
"""In the header ``openai-beta`` of the upgrade: the client reads ``response.metadata`` events."""

ENVELOPE = frozenset({"type", "event_id", "generate"})
"""Fields of a message that are not part of the request."""

_SHARED = frozenset({"gunicorn.socket", "wsgi.errors", UNDERSCORED})
"""Values of the upgrade's WSGI environment that all messages share, in addition to texts and numbers."""

_UPGRADE_HEADERS = ("HTTP_CONNECTION", "HTTP_UPGRADE", "HTTP_SEC_WEBSOCKET_", "HTTP_CONTENT_", "HTTP_EXPECT")
"""Prefixes of headers of the upgrade that do not apply to messages."""


class WebSocketSession:
    """A WebSocket for the application.

    The application returns it as the body of its answer to the upgrade, and the server takes the connection over.
    """

    def __init__(self, gateway: Gateway, environ: Mapping[str, Any]) -> None:
        """:param environ: the WSGI environment of the upgrade."""
        self.max_message_bytes = gateway.settings.max_body_bytes
        self.unstored = UnstoredResponses(gateway.unstored_cache)
        self.wants_metadata = METADATA_OPT_IN in environ.get("HTTP_OPENAI_BETA", "")
        """Whether the client wants the headers of each answer as a ``response.metadata`` event."""
        self._environ = {
            name: value
            for name, value in environ.items()
            if (isinstance(value, str | int | tuple) or name in _SHARED) and not name.startswith(_UPGRADE_HEADERS)
        }

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def __len__(self) -> int:
        """Return 0: the answer to the upgrade has no body, so it is complete when its head has been sent."""
        return 0

    def request_environ(self, message: bytes) -> dict[str, Any]:
        """Return the WSGI environment for the request in a message."""
        return {
            **self._environ,
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(message)),
            "wsgi.input": io.BytesIO(message),
            "wsgi.input_terminated": True,
            SESSION: self,
        }

    def end(self) -> None:
        """Drop the unstored responses of the connection."""
        self.unstored.forget_all()


class _UpgradeResponse(PreparedResponse):
    """A response with the status 101. Werkzeug would drop its body, which the server needs."""

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        """Return the session."""
        return self.response  # type: ignore[return-value]


def open_websocket(request: GatewayRequest, endpoint: Endpoint) -> Response:
    """Open a WebSocket, or refuse it with a status that makes clients switch to POST at once."""
    environ = request.environ
    is_upgrade = environ.get("HTTP_UPGRADE", "").lower() == "websocket" and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    if not is_upgrade or not environ.get(OFFERED) or not isinstance(endpoint.dialect, ResponsesDialect):
        raise GatewayError(426, "WebSocket is not offered here: send a POST request.", code="upgrade_refused")
    authenticate()
    if environ.get("CONTENT_LENGTH", "0") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in environ:
        raise GatewayError(400, "The request for a WebSocket has a body.", code="invalid_upgrade")
    handshake = ServerProtocol().accept(Handshake(request.path, Headers(list(request.headers))))
    if handshake.status_code != 101:
        message = "The request for a WebSocket is not valid: it needs version 13, and a key of 16 bytes."
        raise GatewayError(400, message, code="invalid_upgrade")
    response = _UpgradeResponse(WebSocketSession(request.gateway, environ), 101)
    response.headers.clear()
    for name in ("Upgrade", "Connection", "Sec-WebSocket-Accept"):
        response.headers[name] = handshake.headers[name]
    return response


# ------------------------------------------------------------------------------------------------------------ messages
def session_of(environ: Mapping[str, Any]) -> WebSocketSession | None:
    """Return the WebSocket session of a request; None if it was posted.

    :param environ: the WSGI environment of the request.
    """
    session: WebSocketSession | None = environ.get(SESSION)
    return session


def read_create(message: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the request body in a ``response.create`` message, and whether it only prepares a later one.

    :raises GatewayError: 400, it is another message, or requests something that is not supported.
    """
    kind = message.get("type")
    if kind == "response.steer":
        text = "Steering is not supported: send a 'response.interrupt', and then a 'response.create' that continues."
        raise GatewayError(400, text, param="type", code="steering_not_supported")
    if kind in INTERRUPTS:
        raise GatewayError(400, "No response is running.", param="response_id", code="response_not_active")
    if kind != CREATE:
        text = f"Unsupported message type {kind[:40]!r}" if isinstance(kind, str) else "The message has no type"
        raise GatewayError(400, f"{text}: send 'response.create'.", param="type", code="unsupported_message_type")
    if message.get("stream_id") is not None:
        text = "Streams are not multiplexed: open one WebSocket for each."
        raise GatewayError(400, text, param="stream_id", code="unsupported_parameter")
    nested = message.get("response")
    fields = nested if isinstance(nested, dict) and "model" not in message else message
    is_warm_up = fields.get("generate", message.get("generate")) is False
    body = {name: value for name, value in fields.items() if name not in ENVELOPE and name != "stream_id"}
    return {**body, "stream": True, **({"store": False} if is_warm_up else {})}, is_warm_up


def read_interrupt(message: bytes) -> str | None:
    """Return the id of the response to interrupt; empty for the running one.

    :returns: None if the message is not an interrupt.
    """
    if len(message) > MAX_INTERRUPT_BYTES or not any(kind.encode() in message for kind in INTERRUPTS):
        return None
    try:
        content = jsontext.loads(message)
    except ValueError:
        return None
    if not isinstance(content, dict) or content.get("type") not in INTERRUPTS:
        return None
    response_id = content.get("response_id")
    return response_id if isinstance(response_id, str) else ""


def encode_error(status: int, headers: Iterable[tuple[str, str]], content: bytes) -> bytes:
    """Return the ``error`` message for a request that failed before its stream started.

    :param content: the body of the error answer.
    """
    try:
        error = jsontext.loads(content)["error"]
    except (ValueError, LookupError, TypeError):
        error = GatewayError(status, content.decode("utf-8", "replace")[:500] or "The request failed.").body()["error"]
    return jsontext.dumps({"type": "error", "status": status, "error": error, "headers": _visible(headers)})


def encode_metadata(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the ``response.metadata`` message with the headers of an answer."""
    return jsontext.dumps({"type": "response.metadata", "headers": _visible(headers)})


def _visible(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers without those that describe an HTTP body."""
    pairs = ((name.lower(), value) for name, value in headers)
    return {name: value for name, value in pairs if name not in STREAM_HEADERS and not name.startswith("content-")}
