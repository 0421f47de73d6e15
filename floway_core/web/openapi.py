"""``/openapi.json``: the OpenAPI description of the gateway and of the routes of plugins."""

import functools
import json
from importlib.resources import files
from typing import Any

from flask import Blueprint, Flask, Response, current_app

from floway_core.dialect import Operation
from floway_core.provider import ForwardedPath
from floway_core.web.routing import AUTOMATIC_METHODS, RouteTable, braced, plugin_rules

blueprint = Blueprint("openapi", __name__)

SUMMARIES = {
    Operation.RESPOND: "Create a response",
    Operation.COMPACT: "Compact a conversation",
    Operation.COUNT_TOKENS: "Count the input tokens of a request",
    Operation.LIST_MODELS: "List all models that the key may use",
    Operation.GET_MODEL: "Get one model",
    Operation.OPEN_WEBSOCKET: "Open a WebSocket",
}


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Return the description. It is public like the documentation, so it needs no API key."""
    return Response(current_app.extensions["floway_openapi"], mimetype="application/json")


@functools.cache
def description() -> bytes:
    """Return the description of core: the file in the package."""
    return files("floway_core.web").joinpath("openapi.json").read_bytes()


def with_plugins(app: Flask, table: RouteTable) -> bytes:
    """Return the description of core, and the routes of plugins without their bodies, which core does not know."""
    document = json.loads(description())
    rules = plugin_rules(app, table)
    for owner, rule in rules:
        for method in sorted((rule.methods or set()) - AUTOMATIC_METHODS):
            path = document["paths"].setdefault(braced(rule.rule), {})
            path.setdefault(method.lower(), _describe(app, table, owner, rule.endpoint, sorted(rule.arguments)))
    owners = sorted({owner for owner, _ in rules})
    document["tags"] += [{"name": owner, "description": f"Added by the plugin {owner}."} for owner in owners]
    _add_shared(document, table)
    return json.dumps(document, ensure_ascii=False).encode()


def _describe(app: Flask, table: RouteTable, owner: str, endpoint: str, arguments: list[str]) -> dict[str, Any]:
    """Return the description of one route of a plugin."""
    operation: dict[str, Any] = {"tags": [owner], "responses": {"default": {"description": "See the plugin."}}}
    if arguments:
        schema = {"type": "string"}
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": schema} for name in arguments
        ]
    if routes := table.endpoints.get(endpoint):
        operation["summary"] = f"{SUMMARIES[routes[0].route.operation]}, in the dialect {routes[0].dialect.name}"
    elif path := table.forwarded.get(endpoint):
        operation |= _describe_forwarded(path)
    else:
        view = app.view_functions[endpoint]
        operation["summary"] = (view.__doc__ or view.__name__).strip().splitlines()[0].rstrip(".")
        operation["security"] = []  # the views of plugins check keys themselves, if at all
    return operation


def _describe_forwarded(path: ForwardedPath) -> dict[str, Any]:
    """Return the description of a forwarded path. Only the upstream's API describes the rest of the body."""
    statuses = {"401": "Unauthorized", "404": "NotFound", "429": "Limited", "503": "Unavailable"}
    responses: dict[str, Any] = {
        status: {"$ref": f"#/components/responses/{name}"} for status, name in statuses.items()
    }
    if path.describes_account:
        responses["403"] = {"$ref": "#/components/responses/UpstreamRefused"}
    responses["2XX"] = {"description": "The unchanged answer of the upstream."}
    responses["default"] = {"$ref": "#/components/responses/UpstreamRefused"}
    operation = {"summary": f"Forwarded to an upstream: {path.method} {path.path}", "responses": responses}
    if path.has_model:
        schema: dict[str, Any] = {"type": "object", "properties": {"model": {"type": "string", "minLength": 1}}}
        schema["required"] = [] if path.default_model else ["model"]
        content = {kind: {"schema": schema} for kind in ("application/json", "multipart/form-data")}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _add_shared(document: dict[str, Any], table: RouteTable) -> None:
    """Describe which dialects share a path of core, and how their requests are recognised."""
    for endpoints in table.endpoints.values():
        for endpoint in endpoints if len(endpoints) > 1 else ():
            claims = endpoint.dialect.claims
            marks = [*(f"the header {name}" for name in claims.headers), *(f"?{name}=" for name in claims.parameters)]
            path = document["paths"].get(braced(endpoint.route.rule), {})
            item = path.get(endpoint.route.http_methods[0].lower())
            if item and marks:
                note = f" With {' or '.join(marks)}, in the dialect {endpoint.dialect.name}."
                item["description"] = (item.get("description", "") + note).strip()
