"""``/admin/api/upstreams``: the upstreams, their order and their connections."""

from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.engine import routing
from floway_core.engine.upstream_details import describe_connection
from floway_core.errors import GatewayError
from floway_core.storage import connections, upstreams
from floway_core.web import current_gateway
from floway_core.web.admin.connection_fields import CONNECTION_FIELDS, find_provider, read_changes, read_connection
from floway_core.web.admin.fields import check_fields, read_body

ADDED_FIELDS = {"kind": str, "name": str, "prefix": str}
CHANGED_FIELDS = {"name": str, "enabled": bool, "place": int, "prefix": str}

blueprint = Blueprint("upstreams", __name__, url_prefix="/upstreams")


@blueprint.get("")
def list_upstreams() -> Response:
    """List all upstreams in the order in which they are tried."""
    return jsonify({"data": _describe_all()})


@blueprint.get("/<path:name>")
def get_upstream(name: str) -> Response:
    """Get one upstream."""
    return jsonify(_describe(name))


@blueprint.post("")
def add_upstream() -> tuple[Response, int]:
    """Add an upstream of a provider that needs only a URL and an API key, or nothing."""
    fields = read_body()
    check_fields(fields, {**ADDED_FIELDS, **CONNECTION_FIELDS}, required="kind")
    fields = check_fields(fields, {**ADDED_FIELDS, **CONNECTION_FIELDS}, required="name")
    services, kind, name, prefix = current_gateway().services, fields["kind"], fields["name"], fields.get("prefix", "")
    declared = find_provider(current_gateway(), kind).connection_options
    if declared is None:
        upstreams.add(services.database, kind, name, prefix)
    else:
        connections.add(services, kind, name, read_connection(declared, fields), prefix)
    return jsonify(_describe(name)), 201


@blueprint.patch("/<path:name>")
def change_upstream(name: str) -> Response:
    """Enable or disable the upstream, or change its position, its name, its prefix or its connection."""
    changes = check_fields(read_body(), {**CHANGED_FIELDS, **CONNECTION_FIELDS})
    if changes.get("place", 1) < 1:
        raise GatewayError(400, "Places are counted from 1.", param="place", code="invalid_value")
    services = current_gateway().services
    connection_fields = {field: changes.pop(field) for field in CONNECTION_FIELDS if field in changes}
    upstream = upstreams.find(services.database, name)
    connection_changes = read_changes(current_gateway(), upstream, connection_fields) if connection_fields else {}
    new_name = changes.pop("name", None)
    upstreams.change(services.database, name, new_name=new_name, **changes)
    if connection_changes:
        connections.change(services, upstream, **connection_changes)
    return jsonify(_describe(new_name or name))


@blueprint.post("/<path:name>/test")
def test_upstream(name: str) -> Response:
    """Request its models now, with its stored credentials."""
    models = routing.fetch_models(current_gateway(), name)
    return jsonify({"name": name, "models": [model.id for model in models]})


@blueprint.delete("/<path:name>")
def remove_upstream(name: str) -> Response:
    """Delete the upstream and its stored credentials."""
    upstreams.remove(current_gateway().services.database, name)
    return Response(status=204)


def _describe(name: str) -> dict[str, Any]:
    """:raises GatewayError: 404, there is no such upstream."""
    for description in _describe_all():
        if description["name"] == name:
            return description
    raise upstreams.unknown(name)


def _describe_all() -> list[dict[str, Any]]:
    gateway = current_gateway()
    tries = upstreams.last_tries(gateway.services.database)
    return [
        {
            "id": row.id,
            "name": row.name,
            "kind": row.kind,
            "enabled": row.enabled,
            "place": position,
            "prefix": row.prefix,
            "problem": gateway.unavailable_reason(row),
            **vars(tries.get(row.id, upstreams.NOT_TRIED)),
            **describe_connection(gateway, row),
        }
        for position, row in enumerate(upstreams.all_rows(gateway.services.database), 1)
    ]
