"""``/admin/api/upstreams``: the upstreams, their order and their connections."""

from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.administration import upstreams
from floway_core.administration.connection_fields import CONNECTION_FIELDS
from floway_core.administration.upstreams import UpstreamState
from floway_core.web import current_gateway
from floway_core.web.admin.fields import check_fields, read_body

ADDED_FIELDS = {"kind": str, "name": str, "prefix": str}
CHANGED_FIELDS = {"name": str, "enabled": bool, "place": int, "prefix": str}

blueprint = Blueprint("upstreams", __name__, url_prefix="/upstreams")


@blueprint.get("")
def list_upstreams() -> Response:
    """List all upstreams in the order in which they are tried."""
    return jsonify({"data": [_describe(state) for state in upstreams.list_states(current_gateway())]})


@blueprint.get("/<path:name>")
def get_upstream(name: str) -> Response:
    """Get one upstream."""
    return jsonify(_find(name))


@blueprint.post("")
def add_upstream() -> tuple[Response, int]:
    """Add an upstream of a provider that needs only a URL and an API key, or nothing."""
    fields = read_body()
    check_fields(fields, {**ADDED_FIELDS, **CONNECTION_FIELDS}, required="kind")
    fields = check_fields(fields, {**ADDED_FIELDS, **CONNECTION_FIELDS}, required="name")
    kind, name, prefix = fields.pop("kind"), fields.pop("name"), fields.pop("prefix", "")
    upstreams.add(current_gateway(), kind, name, prefix, fields)
    return jsonify(_find(name)), 201


@blueprint.patch("/<path:name>")
def change_upstream(name: str) -> Response:
    """Enable or disable the upstream, or change its position, its name, its prefix or its connection."""
    changes = check_fields(read_body(), {**CHANGED_FIELDS, **CONNECTION_FIELDS})
    connection_fields = {field: changes.pop(field) for field in CONNECTION_FIELDS if field in changes}
    new_name = changes.pop("name", None)
    upstreams.change(current_gateway(), name, connection_fields, new_name=new_name, **changes)
    return jsonify(_find(new_name or name))


@blueprint.post("/<path:name>/test")
def test_upstream(name: str) -> Response:
    """Request its models now, with its stored credentials."""
    models = upstreams.test(current_gateway(), name)
    return jsonify({"name": name, "models": [model.id for model in models]})


@blueprint.delete("/<path:name>")
def remove_upstream(name: str) -> Response:
    """Delete the upstream and its stored credentials."""
    upstreams.remove(current_gateway().services.database, name)
    return Response(status=204)


def _find(name: str) -> dict[str, Any]:
    """:raises GatewayError: 404, there is no such upstream."""
    return _describe(upstreams.find_state(current_gateway(), name))


def _describe(state: UpstreamState) -> dict[str, Any]:
    upstream = state.upstream
    return {
        "id": upstream.id,
        "name": upstream.name,
        "kind": upstream.kind,
        "enabled": upstream.enabled,
        "place": state.place,
        "prefix": upstream.prefix,
        **state.details,
    }
