"""The operations that dialects serve: respond, compact, count tokens, list models, get one model."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from flask import Response

from floway_core.contexts import ApiKey, ClientRequest, DialectRequest
from floway_core.dialect import Operation, ReadRequest
from floway_core.engine import routing
from floway_core.engine.answer_stream import AnswerFormat
from floway_core.engine.serve import ServedResponse, serve
from floway_core.engine.token_count import count_input_tokens
from floway_core.engine.warm_up import warm_up
from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.protocol import headers, jsontext
from floway_core.protocol.items import TRIGGER, as_items
from floway_core.protocol.request_schema import find_fault
from floway_core.provider import Model
from floway_core.runtime.dialects import Endpoint
from floway_core.runtime.gateway import Gateway
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.web import STREAM_HEADERS, background, current_request, limits, websocket
from floway_core.web.auth import authenticate
from floway_core.web.body import read_object
from floway_core.web.client import SocketClient
from floway_core.web.fast_flask import PreparedResponse
from floway_core.web.gateway_request import GatewayRequest
from floway_core.web.request_log import RequestLogEntry
from floway_core.web.routing import current_routes

log = logging.getLogger("floway")

T = TypeVar("T")

TOKEN_COUNT = "x-floway-token-count"
"""The response header with the source of the count: ``upstream``, or ``estimate`` for core's own."""


def respond(request: GatewayRequest, endpoint: Endpoint) -> Response:
    """Have an upstream respond: as a stream or as one JSON object."""
    admitted = _admit(request, endpoint)
    session = admitted.session
    client_request = _build_client_request(admitted, admitted.read.body)
    unstored = session.unstored if session is not None else None
    if admitted.is_warm_up and unstored is not None:
        events = warm_up(admitted.gateway, client_request, unstored)
        return PreparedResponse(events, headers=list(STREAM_HEADERS.items()))
    if client_request.body.get("background") is True:
        if session is not None:
            raise GatewayError(400, "A WebSocket has no background responses.", param="background")
        return _respond_in_background(endpoint, client_request)
    answer_format = _build_answer_format(endpoint, client_request)
    served = serve(admitted.gateway, client_request, admitted.entry.trace, answer_format, unstored)
    if served.content is not None:
        return PreparedResponse.from_json(served.content, _response_headers(served))
    if served.stream is None:
        content = _call_dialect(endpoint, endpoint.dialect.response, client_request, served.response)
        return _json(content, _response_headers(served))
    admitted.request.raw = b""  # no attempt follows that could send it, and a stream may be open for minutes
    if admitted.admission:
        limits.release_before_terminal(served.stream, admitted.admission, admitted.entry.trace)
    if _goes_on_without_client(admitted.gateway, client_request.body):
        served.stream.on_abandoned = background.current_runs().finish
    framing = answer_format.framing
    content_type = framing.content_type if framing else endpoint.dialect.content_type
    stream_headers = {**STREAM_HEADERS, "content-type": content_type}
    response_headers = [*stream_headers.items(), *_response_headers(served)]
    return PreparedResponse(served.stream, headers=response_headers, direct_passthrough=True)


def _respond_in_background(endpoint: Endpoint, client_request: ClientRequest) -> Response:
    """Start a background response. Return its current state, or follow its events if the client streams."""
    response = background.start(client_request)
    if client_request.stream and (stored := background.find_background(client_request.api_key, response["id"])):
        return background.follow(client_request.api_key, stored, after=-1)
    return _json(_call_dialect(endpoint, endpoint.dialect.response, client_request, response))


def compact(request: GatewayRequest, endpoint: Endpoint) -> Response:
    """Compact a conversation. The client replaces its history by the ``output``."""
    admitted = _admit(request, endpoint)
    body = admitted.read.body
    body = {
        **body,
        "stream": False,
        "background": None,
        "input": [*as_items(body.get("input") or []), {"type": TRIGGER}],
    }
    client_request = _build_client_request(admitted, body)
    served = serve(admitted.gateway, client_request, admitted.entry.trace)
    content = _call_dialect(endpoint, endpoint.dialect.compaction, client_request, served.response)
    return _json(content, _response_headers(served))


def count_tokens(request: GatewayRequest, endpoint: Endpoint) -> Response:
    """Count the input tokens of a request. It does not count against the limits of the key."""
    admitted = _admit(request, endpoint, metered=False)
    client_request = _build_client_request(admitted, admitted.read.body)
    dialect = endpoint.dialect
    count, source = count_input_tokens(
        admitted.gateway, client_request, lambda request: _call_dialect(endpoint, dialect.estimate_tokens, request)
    )
    content = _call_dialect(endpoint, endpoint.dialect.token_count, admitted.request, count)
    return _json(content, [(TOKEN_COUNT, source)])


def list_models(request: GatewayRequest, endpoint: Endpoint) -> Response:
    """List the models that the key may use."""
    dialect_request, models = _allowed_models(request, endpoint)
    return _json(_call_dialect(endpoint, endpoint.dialect.models, dialect_request, models))


def get_model(request: GatewayRequest, endpoint: Endpoint) -> Response:
    """Get one model."""
    dialect_request, models = _allowed_models(request, endpoint)
    # Ids may contain slashes, so the route matches a trailing slash as a part of the id.
    name = dialect_request.path_args["model"].removesuffix("/")
    for model in models:
        if model.id == name:
            return _json(_call_dialect(endpoint, endpoint.dialect.model, dialect_request, model))
    raise routing.model_not_found(name)


VIEWS = {
    Operation.RESPOND: respond,
    Operation.COMPACT: compact,
    Operation.COUNT_TOKENS: count_tokens,
    Operation.LIST_MODELS: list_models,
    Operation.GET_MODEL: get_model,
    Operation.OPEN_WEBSOCKET: websocket.open_websocket,
}


# ---------------------------------------------------------------------------------------------------------- admission
class _Admitted(NamedTuple):
    """An authenticated request within its limits, with a valid body."""

    gateway: Gateway
    environ: dict[str, Any]
    """The WSGI environment."""
    entry: RequestLogEntry
    key: ApiKey
    admission: limits.AdmittedRequest | None
    endpoint: Endpoint
    request: DialectRequest
    read: ReadRequest
    session: websocket.WebSocketSession | None = None
    """The session, if the request came as a message of a WebSocket."""
    is_warm_up: bool = False
    """Whether the client wants no output, but only prepares its next request."""


def _admit(request: GatewayRequest, endpoint: Endpoint, metered: bool = True) -> _Admitted:
    """Authenticate a request, apply its limits and read its body.

    :param metered: whether the request counts as usage of its key, and against its limits.
    :raises GatewayError: the request is refused.
    """
    gateway, entry = request.gateway, request.log_entry
    session = websocket.session_of(request.environ)
    key = authenticate()
    entry.metered = metered
    admission = limits.admit(gateway, key, entry) if metered else None
    body, raw = read_object(request, gateway.settings.max_body_bytes)
    body, is_warm_up = websocket.read_create(body) if session is not None else (body, False)
    raw = raw if endpoint.dialect.keeps_original else b""
    dialect_request = _build_dialect_request(request, endpoint, body, raw)
    read = _call_dialect(endpoint, endpoint.dialect.read, dialect_request)
    if not isinstance(read, ReadRequest) or not isinstance(read.body, dict):
        raise _dialect_error(endpoint, TypeError(f"read returned a {type(read).__name__} and not a ReadRequest"))
    if fault := find_fault(read.body):  # no upstream could accept this
        raise GatewayError(400, fault.message, param=fault.param, code=fault.code)
    entry.model = read.body["model"]
    return _Admitted(
        gateway, request.environ, entry, key, admission, endpoint, dialect_request, read, session, is_warm_up
    )


def _build_dialect_request(
    request: GatewayRequest, endpoint: Endpoint, body: dict[str, Any], raw: bytes = b""
) -> DialectRequest:
    """Return a request for a dialect, without credentials."""
    environ, hidden = request.environ, endpoint.dialect.key_parameters
    has_query = bool(environ.get("QUERY_STRING"))
    return DialectRequest(
        method=environ["REQUEST_METHOD"],
        path=request.path,
        path_args=current_routes().arguments(endpoint, request) if endpoint.argument_names else {},
        query={name: value for name, value in request.args.items() if name not in hidden} if has_query else {},
        headers=headers.client_headers(environ, request.gateway.dialects.credentials),
        body=body,
        raw=raw,
    )


def _allowed_models(request: GatewayRequest, endpoint: Endpoint) -> tuple[DialectRequest, list[Model]]:
    """Authenticate a request, and return it with the models that its key may use."""
    key = authenticate()
    return _build_dialect_request(request, endpoint, {}), list(routing.list_models(request.gateway, key))


# ------------------------------------------------------------------------------------------------------------ serving
def _build_client_request(admitted: _Admitted, body: dict[str, Any]) -> ClientRequest:
    """Return the neutral request, with ``body`` in the form of the Responses API."""
    dialect, read, route = admitted.endpoint.dialect, admitted.read, admitted.endpoint.route
    stream = route.operation is Operation.RESPOND and (read.stream if route.stream is None else route.stream)
    if (body.get("stream") is True) is not stream:  # providers send it to their upstreams
        body = {**body, "stream": stream}
    finishes, memory = _goes_on_without_client(admitted.gateway, body), current_request().memory
    return ClientRequest(
        id=admitted.entry.id,
        api_key=admitted.key,
        headers=admitted.request.headers,
        body=body,
        stream=stream,
        client=SocketClient(admitted.environ, admitted.gateway.shutdown, watches=not finishes),
        dialect=dialect.name,
        original=admitted.request if dialect.keeps_original else None,
        conversation_hint=read.conversation_hint,
        restores_reasoning=read.restores_reasoning,
        required_fields=read.required_fields,
        dropped_fields=read.dropped_fields,
        untranslatable=read.untranslatable,
        reserve_memory=memory.add,
        shrink_memory=memory.shrink,
        is_websocket_message=admitted.session is not None,
    )


def _goes_on_without_client(gateway: Gateway, body: Mapping[str, Any]) -> bool:
    """Return whether a response goes on when its client disconnects, because it can be read later."""
    return gateway.settings.finishes_abandoned and body.get("store") is not False


def _build_answer_format(endpoint: Endpoint, client_request: ClientRequest) -> AnswerFormat:
    """Return the data of the dialect that the engine needs to answer ``client_request``."""
    dialect = endpoint.dialect
    is_message = client_request.is_websocket_message  # a WebSocket has pings, and needs no end mark
    is_framed = client_request.stream and not is_message
    framing = _call_dialect(endpoint, dialect.framing, client_request) if is_framed else None
    keepalive = framing.keepalive if framing else dialect.keepalive
    return AnswerFormat(
        dialect.name,
        translator=partial(_call_dialect, endpoint, dialect.translator, client_request),
        keepalive=b"" if is_message else keepalive,
        done=b"" if is_message else dialect.done,
        reader=partial(_call_dialect, endpoint, dialect.reader, client_request),
        framing=framing,
    )


def _call_dialect(endpoint: Endpoint, method: Callable[..., T], *arguments: object) -> T:
    """Call a method of a dialect. An exception of its plugin becomes a 500, and the log names the plugin."""
    try:
        return method(*arguments)
    except (GatewayError, ClientDisconnected, *DATABASE_ERRORS):
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        raise _dialect_error(endpoint, error) from error


def _dialect_error(endpoint: Endpoint, error: BaseException) -> GatewayError:
    request = current_request()
    owner = request.gateway.dialects.owners[endpoint.dialect.name]
    names = (request.log_entry.id, endpoint.dialect.name, owner)
    log.error("Request %s: the dialect %r of plugin %r failed", *names, exc_info=error)
    return GatewayError(500, "The gateway failed to serve this request.", code="internal_error")


def _json(content: dict[str, Any], response_headers: Iterable[tuple[str, str]] = ()) -> Response:
    return PreparedResponse.from_json(jsontext.dumps(content), response_headers)


def _response_headers(served: ServedResponse) -> list[tuple[str, str]]:
    """Return the upstream's headers for the client, and the header that lists the ignored fields of the request."""
    return headers.with_ignored(headers.relayed_headers(served.headers), served.ignored)
