"""The beginning of an answer as over HTTP: its headers, and refusals."""

from floway_codex.identity.turns import TURN_STATE
from floway_codex.websocket import events
from floway_codex.websocket.connection import MAX_MESSAGE_HEADER
from floway_core.protocol import jsontext
from floway_core.provider import IterableBody, UpstreamResponse

EVENT_STREAM = ("content-type", "text/event-stream; charset=utf-8")
OF_THE_UPGRADE = frozenset({TURN_STATE, MAX_MESSAGE_HEADER, "content-type", "content-length"})


def lasting_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers of an upgrade that say something about the answer. The CLI ignores the turn state in them."""
    return [(name, value) for name, value in headers if name not in OF_THE_UPGRADE]


def refusal(error: dict[str, object]) -> UpstreamResponse:
    """An error event as the answer over HTTP to the same request."""
    body = {name: value for name, value in error.items() if name not in ("type", "status", "status_code", "headers")}
    headers = [pair for pair in events.read_headers(error) if pair[0] not in ("content-type", "content-length")]
    content = IterableBody([jsontext.dumps(body)])
    return UpstreamResponse(events.read_status(error) or 502, [*headers, ("content-type", "application/json")], content)
