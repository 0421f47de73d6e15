"""Parse the backend's messages: the type of an event, its headers, its status and its error code."""

import re
from collections.abc import Mapping
from typing import Any

from floway_core.errors import UpstreamBroken
from floway_core.protocol import jsontext

FIRST_KEY = b'{"type":"'
KIND = re.compile(rb"[\w.]{1,100}")

RATE_LIMITS, METADATA, ERROR = "codex.rate_limits", "response.metadata", "error"
ITEM_DONE, COMPLETED = "response.output_item.done", "response.completed"
TERMINAL = frozenset({COMPLETED, "response.incomplete", "response.failed"})
WITHOUT_CONTENT = frozenset({RATE_LIMITS, METADATA, "response.created", "response.in_progress", "response.queued"})
"""Events before the answer itself. If the connection is lost after them, the request can be sent again."""
RECONNECT_CODES = frozenset({"previous_response_not_found", "websocket_connection_limit_reached"})
"""Codes of errors that concern the connection, not the request."""


def read_kind(message: bytes) -> str | None:
    """The type of an event; None if the message is no event."""
    if message.startswith(FIRST_KEY):  # most of them; this saves parsing
        kind = message[len(FIRST_KEY) : message.find(b'"', len(FIRST_KEY))]
    else:
        value = parse_event(message)
        stated = value.get("type") if value else None
        kind = stated.encode(errors="replace") if isinstance(stated, str) else b""
    return kind.decode() if KIND.fullmatch(kind) else None


def parse_event(message: bytes) -> dict[str, Any] | None:
    """The object in a message; None if there is none."""
    try:
        value = jsontext.loads(message)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse_whole(message: bytes) -> dict[str, Any]:
    """The object in a message whose content matters.

    :raises UpstreamBroken: there is none.
    """
    value = parse_event(message)
    if value is None:
        raise UpstreamBroken("The upstream sent a message that is not JSON.")
    return value


def to_sse(kind: str, message: bytes) -> bytes:
    """Return the event as a server-sent event. Line breaks can only occur between the tokens of JSON."""
    if b"\n" in message or b"\r" in message:
        message = message.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), message)


def read_headers(event: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The headers in an event, names in lower case."""
    headers = event.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else ()
    return [
        (name.lower(), str(value)) for name, value in pairs if isinstance(value, str | int) and _is_line(str(value))
    ]


def _is_line(value: str) -> bool:
    return value.isascii() and value.isprintable()


def read_status(event: Mapping[str, Any]) -> int | None:
    """The HTTP status in an error event; None if it has none."""
    status = event.get("status", event.get("status_code"))
    return status if type(status) is int and 400 <= status < 600 else None


def read_code(event: Mapping[str, Any]) -> str | None:
    """The code of the error in an error event."""
    error = event.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else None
