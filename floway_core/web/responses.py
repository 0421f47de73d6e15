"""``POST /v1/responses``: creating a response."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, request

from floway_core.contexts import ApiKey, ClientRequest
from floway_core.conversation.records import Turn
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
    """Serve one request, as a stream of events or as one JSON object."""
    admitted = _admit()
    answer = _respond(admitted, admitted.body)
    passed = _answer_headers(answer)
    if answer.relay:
        admitted.environ[RELAY] = answer.relay
        told = limits.ReleaseBeforeTerminal(answer.relay, admitted.admission) if admitted.admission else answer.relay
        return PreparedResponse(told, headers=[*STREAM_HEADERS.items(), *passed], direct_passthrough=True)
    return PreparedResponse(jsontext.dumps(answer.response), headers=passed, mimetype="application/json")


@blueprint.post("/v1/responses/compact")
@blueprint.post("/responses/compact")
def compact() -> Response:
    """Compact a conversation: the answer's ``output`` takes its place."""
    admitted = _admit()
    trigger = {"type": TRIGGER}
    body = {**admitted.body, "stream": False, "input": [*as_items(admitted.body.get("input") or []), trigger]}
    answer = _respond(admitted, body)
    shown = {name: answer.response.get(name) for name in ("id", "created_at", "output", "usage")}
    content = jsontext.dumps({**shown, "object": "response.compaction"})
    return PreparedResponse(content, headers=_answer_headers(answer), mimetype="application/json")


@dataclass(frozen=True)
class _Admitted:
    """A request that was let in: its key is good, and its body makes sense."""

    gateway: Gateway
    environ: dict[str, Any]
    """That of WSGI."""
    entry: RequestLogEntry
    key: ApiKey
    admission: limits.AdmittedRequest | None
    body: dict[str, Any]


def _admit() -> _Admitted:
    """:raises GatewayError: it is not."""
    gateway, entry = current_gateway(), g.request_log
    current = request._get_current_object()
    key = authenticate(gateway, current)
    entry.key, entry.metered = key.name, True
    admission = limits.admit(gateway, key, entry)
    body = read_object(current, gateway.settings.max_body_bytes)
    check(body)
    entry.model = body["model"]
    return _Admitted(gateway, current.environ, entry, key, admission, body)


def _respond(admitted: _Admitted, body: dict[str, Any]) -> ServedResponse:
    """The answer of an upstream.

    :param body: what is admitted of it.
    """
    gateway, key = admitted.gateway, admitted.key
    response_id = f"resp_{admitted.entry.id.replace('-', '')}"  # who has a response finds its request in the log
    turn = resolve_turn(
        gateway.services.database, gateway.history_cache, key.id, body, response_id, gateway.settings.retention_days
    )
    wanted = ClientRequest(
        id=admitted.entry.id,
        api_key=key,
        headers=headers.client_headers(admitted.environ),
        body=_for_upstream(body, turn),
        stream=body.get("stream") is True,
        client=SocketClient(admitted.environ, gateway.shutdown),
    )
    return respond(gateway, wanted, turn, admitted.entry.trace)


def _answer_headers(answer: ServedResponse) -> list[tuple[str, str]]:
    """What the client gets of the upstream's headers, and what of its request was ignored."""
    return headers.with_ignored(headers.relayed_headers(answer.headers), answer.ignored)


def _for_upstream(body: dict[str, Any], turn: Turn) -> dict[str, Any]:
    """The request with everything said before, instead of a reference to it: no upstream knows the ids of responses."""
    whole = {name: value for name, value in body.items() if name != "previous_response_id"}
    if isinstance(options := whole.get("prompt_cache_options"), dict):
        whole["prompt_cache_options"] = {name: options[name] for name in options if name != "comparison_response_id"}
    return {**whole, "input": list(turn.input.items)}


@blueprint.get("/v1/responses")
@blueprint.get("/responses")
@blueprint.get("/v1/responses", websocket=True)
@blueprint.get("/responses", websocket=True)
def websocket_refused() -> Response:
    """Tell a client that tries a WebSocket at once to use POST; it then does, without waiting."""
    raise GatewayError(426, "WebSocket is not offered here: send a POST request.", code="upgrade_refused")


def check(body: Mapping[str, Any]) -> None:
    """Refuse what no upstream could make sense of.

    :raises GatewayError: 400, naming the parameter.
    """
    if fault := find_fault(body):
        raise GatewayError(400, fault.message, param=fault.param, code=fault.code)
