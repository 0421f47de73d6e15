"""Routes for the paths of other APIs that providers forward, such as embeddings, images and audio."""

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Flask, Response

from floway_core.contexts import ClientRequest, DialectRequest
from floway_core.engine.forwarding import ForwardedRequest, forward
from floway_core.errors import GatewayError
from floway_core.protocol import headers, jsontext, multipart
from floway_core.provider import ForwardedPath
from floway_core.runtime.lifecycle import Providers
from floway_core.runtime.plugins import PluginError
from floway_core.web import current_request, limits
from floway_core.web.auth import authenticate
from floway_core.web.body import parse_object, read_content
from floway_core.web.client import SocketClient
from floway_core.web.fast_flask import PreparedResponse
from floway_core.web.gateway_request import GatewayRequest
from floway_core.web.routing import RouteTable

MODEL = "model"
"""The field that names the model, in JSON and in forms."""

BODY_HEADERS = ("content-type", "content-disposition")
"""Headers that describe the bytes of an answer. The client gets them unchanged."""

ModelInBody = tuple[str | None, Callable[[str], bytes]]
"""The model in a body, and a function that returns the body with another model."""


def register_forwarded_paths(app: Flask, table: RouteTable, providers: Providers) -> None:
    """Add a route, with ``/v1`` and without, for each path that a provider forwards.

    :raises PluginError: a path is malformed.
    """
    for kind, provider in providers.by_kind.items():
        for path in provider.forwarded_paths:
            if not path.path.startswith("/") or "<" in path.path or path.path.endswith("/"):
                message = f"cannot forward {path.path!r}: it must be a path without variable parts."
                raise PluginError(f"Plugin {providers.owners[kind]!r} {message}")
            for prefix in path.prefixes:
                name = f"forward {path.method} {prefix}{path.path}".replace(".", "-")
                if name not in table.owners:  # providers may forward the same paths
                    table.owners[name] = providers.owners[kind]
                    table.forwarded[name] = path
                    view = partial(_forward, path)
                    app.add_url_rule(prefix + path.path, endpoint=name, view_func=view, methods=[path.method])


def _forward(path: ForwardedPath) -> Response:
    request = current_request()
    gateway, entry = request.gateway, request.log_entry
    key = authenticate()
    if path.describes_account and not key.shows_account:
        message = "This path describes the gateway's account. Only its operator can allow it for your API key."
        raise GatewayError(403, message, code="account_hidden")
    entry.metered = True
    admission = limits.admit(gateway, key, entry)
    original = _read_original(request)
    model, content_for = _find_model(path, request, original)
    entry.model = model
    client = SocketClient(request.environ, gateway.shutdown)
    client_request = ClientRequest(entry.id, key, original.headers, {}, stream=False, client=client, original=original)
    stream = forward(gateway, ForwardedRequest(client_request, original, path, model, content_for), entry.trace)
    if admission:
        limits.release_before_terminal(stream, admission, entry.trace)
    body_headers = [(name, value) for name, value in stream.headers if name in BODY_HEADERS]
    if not any(name == "content-encoding" for name, _ in stream.headers):
        body_headers += [(name, value) for name, value in stream.headers if name == "content-length"]
    relayed = headers.relayed_headers(stream.headers)
    return PreparedResponse(stream, headers=[*body_headers, *relayed], direct_passthrough=True)


def _read_original(request: GatewayRequest) -> DialectRequest:
    """Read the request for the provider.

    :raises GatewayError: 400, 408, 413, 415 or 503.
    """
    gateway, dialect = request.gateway, request.dialect
    content, memory = read_content(request, gateway.settings.max_body_bytes)
    body: dict[str, Any] = parse_object(content, memory) if content and _is_json(request) else {}
    return DialectRequest(
        method=request.method,
        path=request.path,
        path_args={},
        query={name: value for name, value in request.args.items() if name not in dialect.key_parameters},
        headers=headers.client_headers(request.environ, gateway.dialects.credentials),
        body=body,
        raw=content,
    )


def _is_json(request: GatewayRequest) -> bool:
    return not request.mimetype or request.mimetype == "application/json" or request.mimetype.endswith("+json")


def _find_model(path: ForwardedPath, request: GatewayRequest, original: DialectRequest) -> ModelInBody:
    """Return the model of a request, and a function that returns its body with another model.

    :raises GatewayError: 400, the model is missing or ill-typed, or the form is malformed; 415, the body is neither.
    """
    if not path.has_model:
        return None, lambda name: original.raw
    if _is_json(request):
        model_name, rename = _model_in_json(original)
    elif boundary := multipart.read_boundary(request.headers.get("content-type", "")):
        model_name, rename = _model_in_form(original.raw, boundary)
    else:
        message = f"Content-type {request.mimetype[:40]!r} is not supported here: send JSON or a multipart form."
        raise GatewayError(415, message, code="unsupported_content_type")
    model = model_name or path.default_model
    if not model:
        message = f"Missing required parameter: '{MODEL}'."
        raise GatewayError(400, message, param=MODEL, code="missing_required_parameter")
    return model, lambda name: original.raw if name == model else rename(name)


def _model_in_json(original: DialectRequest) -> ModelInBody:
    model = original.body.get(MODEL)
    if not isinstance(model, str | None):
        message = f"Invalid type for '{MODEL}': expected a string."
        raise GatewayError(400, message, param=MODEL, code="invalid_type")
    return model, lambda name: jsontext.dumps({**original.body, MODEL: name})


def _model_in_form(content: bytes, boundary: bytes) -> ModelInBody:
    try:
        span = multipart.find_field(content, boundary, MODEL)
        model = content[slice(*span)].decode() if span else None
    except ValueError as error:
        message = f"The request body is not a valid form: {error}."
        raise GatewayError(400, message, code="invalid_body") from None

    def rename(name: str) -> bytes:
        if span:
            return content[: span[0]] + name.encode() + content[span[1] :]
        return multipart.add_field(content, boundary, MODEL, name)

    return model, rename
