"""``POST /v1/responses``: creating a response."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Response, g, request

from floway_core.contexts import ApiKey, ClientRequest
from floway_core.conversation.records import StoreLimits, Turn
from floway_core.conversation.turns import resolve_turn
from floway_core.engine.serve import ServedResponse, respond
from floway_core.errors import GatewayError
from floway_core.protocol import headers, jsontext
from floway_core.protocol.items import TRIGGER, as_items
from floway_core.protocol.request_schema import find_fault
from floway_core.runtime.gateway import Gateway
from floway_core.web import RELAY, STREAM_HEADERS, PreparedResponse, current_gateway, limits
from floway_core.web.auth import authenticate
from floway_core.web.body import read_object
from floway_core.web.client import SocketClient
from floway_core.web.request_log import RequestLogEntry

blueprint = Blueprint("responses", __name__)


@blueprint.post("/v1/responses")
@blueprint.post("/responses")
def create_response() -> Response:
    """Create a response: as a stream of events or as one JSON object."""
    admitted = _admit()
    served = _serve(admitted, admitted.body)
    relayed_headers = _response_headers(served)
    if served.relay is None:
        content = jsontext.dumps(served.response)
        return PreparedResponse(content, headers=relayed_headers, mimetype="application/json")
    admitted.environ[RELAY] = served.relay
    admission = admitted.admission
    chunks = limits.ReleaseBeforeTerminal(served.relay, admission) if admission else served.relay
    body = cast(Iterable[bytes], chunks)  # they yield None, too, which WSGI's types do not know: see ``engine.relay``
    return PreparedResponse(body, headers=[*STREAM_HEADERS.items(), *relayed_headers], direct_passthrough=True)


@blueprint.post("/v1/responses/compact")
@blueprint.post("/responses/compact")
def compact() -> Response:
    """Compact a conversation. The client replaces its history by the ``output``."""
    admitted = _admit()
    trigger = {"type": TRIGGER}
    body = {**admitted.body, "stream": False, "input": [*as_items(admitted.body.get("input") or []), trigger]}
    served = _serve(admitted, body)
    fields = {name: served.response.get(name) for name in ("id", "created_at", "output", "usage")}
    content = jsontext.dumps({**fields, "object": "response.compaction"})
    return PreparedResponse(content, headers=_response_headers(served), mimetype="application/json")


@dataclass(frozen=True)
class _Admitted:
    """An authenticated request within its limits, with a valid body."""

    gateway: Gateway
    environ: dict[str, Any]
    """The WSGI environment."""
    entry: RequestLogEntry
    key: ApiKey
    admission: limits.AdmittedRequest | None
    body: dict[str, Any]


def _admit() -> _Admitted:
    """Authenticate the current request, apply its limits and read its body.

    :raises GatewayError: the request is refused.
    """
    gateway, entry = current_gateway(), g.request_log
    key = authenticate(gateway, request)
    entry.key, entry.metered = key.name, True
    admission = limits.admit(gateway, key, entry)
    body = read_object(request, gateway.settings.max_body_bytes).content
    _check_fields(body)
    entry.model = body["model"]
    return _Admitted(gateway, request.environ, entry, key, admission, body)


def _serve(admitted: _Admitted, body: dict[str, Any]) -> ServedResponse:
    """Have an upstream respond to an admitted request with ``body`` as its body.

    :raises GatewayError: the conversation cannot be continued, or no upstream responded.
    """
    gateway, key = admitted.gateway, admitted.key
    response_id = f"resp_{admitted.entry.id.replace('-', '')}"  # the request id, to find the request in the log
    turn = resolve_turn(
        gateway.services.database,
        gateway.history_cache,
        key.id,
        body,
        response_id,
        gateway.settings.retention_days,
        StoreLimits(gateway.settings.input_limit, key.max_stored_bytes or gateway.settings.max_stored_bytes),
    )
    client_request = ClientRequest(
        id=admitted.entry.id,
        api_key=key,
        headers=headers.client_headers(admitted.environ),
        body=_with_history(body, turn),
        stream=body.get("stream") is True,
        client=SocketClient(admitted.environ, gateway.shutdown),
    )
    return respond(gateway, client_request, turn, admitted.entry.trace)


def _response_headers(served: ServedResponse) -> list[tuple[str, str]]:
    """Return the upstream's headers for the client, and the header that lists the ignored fields of the request."""
    return headers.with_ignored(headers.relayed_headers(served.headers), served.ignored)


def _with_history(body: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """Return ``body`` with the whole history in ``input`` and without ids of responses, which no upstream knows."""
    request_body = {name: value for name, value in body.items() if name != "previous_response_id"}
    if isinstance(options := request_body.get("prompt_cache_options"), dict):
        options = {name: value for name, value in options.items() if name != "comparison_response_id"}
        request_body["prompt_cache_options"] = options
    return {**request_body, "input": list(turn.input.items)}


@blueprint.get("/v1/responses")
@blueprint.get("/responses")
@blueprint.get("/v1/responses", websocket=True)
@blueprint.get("/responses", websocket=True)
def websocket_refused() -> Response:
    """Refuse a WebSocket with a status that makes clients switch to POST at once."""
    raise GatewayError(426, "WebSocket is not offered here: send a POST request.", code="upgrade_refused")


def _check_fields(body: Mapping[str, Any]) -> None:
    """Refuse a body that no upstream could accept.

    :raises GatewayError: 400, with the name of the field.
    """
    if fault := find_fault(body):
        raise GatewayError(400, fault.message, param=fault.param, code=fault.code)
