"""``POST /v1/responses``: creating a response."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, request

from floway_core.contexts import ApiKey, ClientRequest
from floway_core.conversation.begin import begin
from floway_core.conversation.rows import Turn
from floway_core.engine.serve import Answer, respond
from floway_core.errors import GatewayError
from floway_core.gateway import Gateway
from floway_core.protocol import headers, jsontext
from floway_core.protocol.items import TRIGGER, as_items
from floway_core.routes import RELAY, STREAM_HEADERS, Finished, current_gateway, limits
from floway_core.routes.auth import authenticate
from floway_core.routes.body import read_object
from floway_core.routes.client import SocketClient
from floway_core.routes.log import RequestLog

blueprint = Blueprint("responses", __name__)

MOST_ITEMS = 50_000
"""In the input of one request: far more than any model takes."""


@blueprint.post("/v1/responses")
@blueprint.post("/responses")
def create_response() -> Response:
    """Serve one request, as a stream of events or as one JSON object."""
    asked = _let_in()
    answer = _respond(asked, asked.body)
    passed = headers.of_upstream(answer.headers)
    if answer.relay:
        asked.environ[RELAY] = answer.relay
        told = limits.EndingInTime(answer.relay, asked.stay) if asked.stay else answer.relay
        return Finished(told, headers=[*STREAM_HEADERS.items(), *passed], direct_passthrough=True)
    return Finished(jsontext.dumps(answer.response), headers=passed, mimetype="application/json")


@blueprint.post("/v1/responses/compact")
@blueprint.post("/responses/compact")
def compact() -> Response:
    """Compact a conversation: the answer's ``output`` takes its place."""
    asked = _let_in()
    trigger = {"type": TRIGGER}
    body = {**asked.body, "stream": False, "input": [*as_items(asked.body.get("input") or []), trigger]}
    answer = _respond(asked, body)
    shown = {name: answer.response.get(name) for name in ("id", "created_at", "output", "usage")}
    content = jsontext.dumps({**shown, "object": "response.compaction"})
    return Finished(content, headers=headers.of_upstream(answer.headers), mimetype="application/json")


@dataclass(frozen=True)
class _Asked:
    """A request that was let in: its key is good, and its body makes sense."""

    gateway: Gateway
    environ: dict[str, Any]
    """That of WSGI."""
    entry: RequestLog
    key: ApiKey
    stay: limits.Stay | None
    body: dict[str, Any]


def _let_in() -> _Asked:
    """:raises GatewayError: it is not."""
    gateway, entry = current_gateway(), g.request_log
    current = request._get_current_object()
    key = authenticate(gateway, current)
    entry.key, entry.metered = key.name, True
    stay = limits.enter(gateway, key, entry)
    body = read_object(current, gateway.settings.max_body_bytes)
    check(body)
    entry.model = body["model"]
    return _Asked(gateway, current.environ, entry, key, stay, body)


def _respond(asked: _Asked, body: dict[str, Any]) -> Answer:
    """The answer of an upstream.

    :param body: what is asked of it.
    """
    gateway, key = asked.gateway, asked.key
    response_id = f"resp_{asked.entry.id.replace('-', '')}"  # who has a response finds its request in the log
    turn = begin(
        gateway.services.database, gateway.histories, key.id, body, response_id, gateway.settings.retention_days
    )
    wanted = ClientRequest(
        id=asked.entry.id,
        api_key=key,
        headers=headers.of_client(asked.environ),
        body=_for_upstream(body, turn),
        stream=body.get("stream") is True,
        client=SocketClient(asked.environ, gateway.ending),
    )
    return respond(gateway, wanted, turn, asked.entry.course)


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


def check(body: dict[str, Any]) -> None:
    """Refuse what no upstream could make sense of.

    :raises GatewayError: 400, naming the parameter.
    """
    if body.get("model") in (None, ""):
        raise GatewayError(
            400, "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        )
    _expect(body, "model", str, "a string")
    if body.get("previous_response_id") is not None:
        _expect(body, "previous_response_id", str, "a string")
    for name in ("conversation", "background"):
        if body.get(name):
            raise GatewayError(400, f"{name!r} is not supported.", param=name, code="unsupported_parameter")
    if body.get("input") is None and body.get("previous_response_id") is None:
        raise GatewayError(
            400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter"
        )
    if body.get("input") is not None:
        _expect(body, "input", (str, list), "a string or a list of items")
    if isinstance(body.get("input"), list):
        if len(body["input"]) > MOST_ITEMS:
            message = f"Invalid 'input': an array of at most {MOST_ITEMS} items is expected."
            raise GatewayError(400, message, param="input", code="array_above_max_length")
        for number, item in enumerate(body["input"]):
            if not isinstance(item, dict):
                raise _wrong_type(f"input[{number}]", "an object")
            if not isinstance(item.get("type"), str | None):
                raise _wrong_type(f"input[{number}].type", "a string")
    for name in ("stream", "store"):
        if body.get(name) is not None:
            _expect(body, name, bool, "a boolean")


def _expect(body: dict[str, Any], name: str, types: type | tuple[type, ...], wanted: str) -> None:
    if not isinstance(body[name], types):
        raise _wrong_type(name, wanted)


def _wrong_type(name: str, wanted: str) -> GatewayError:
    return GatewayError(400, f"Invalid type for '{name}': expected {wanted}.", param=name, code="invalid_type")
