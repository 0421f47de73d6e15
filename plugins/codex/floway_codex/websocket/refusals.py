"""Convert the start of an answer to its form over HTTP: the headers, and error events as error responses."""

from floway_codex.identity.turns import TURN_STATE
from floway_codex.websocket import events
from floway_codex.websocket.connection import MAX_MESSAGE_HEADER
from floway_core.protocol import jsontext
from floway_core.provider import IterableBody, UpstreamResponse

EVENT_STREAM = ("content-type", "text/event-stream; charset=utf-8")
UPGRADE_ONLY_HEADERS = frozenset({TURN_STATE, MAX_MESSAGE_HEADER, "content-type", "content-length"})


def response_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of an upgrade that also apply to the answer. The CLI ignores the turn state in them."""
    return [(name, value) for name, value in headers if name not in UPGRADE_ONLY_HEADERS]


def error_response(error: dict[str, object]) -> UpstreamResponse:
    """Return an error event as the error response that a POST would receive."""
    body = {name: value for name, value in error.items() if name not in ("type", "status", "status_code", "headers")}
    headers = [pair for pair in events.read_headers(error) if pair[0] not in ("content-type", "content-length")]
    content = IterableBody([jsontext.dumps(body)])
    return UpstreamResponse(events.read_status(error) or 502, [*headers, ("content-type", "application/json")], content)
