"""``/admin/api/upstreams``: the upstreams and their order. Plugins have commands for the credentials."""

from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.engine import routing
from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.web import current_gateway
from floway_core.web.admin.fields import check_fields, read_body

blueprint = Blueprint("upstreams", __name__, url_prefix="/upstreams")


@blueprint.get("")
def list_upstreams() -> Response:
    """List all upstreams in the order in which they are tried."""
    return jsonify({"data": _describe_all()})


@blueprint.get("/<path:name>")
def get_upstream(name: str) -> Response:
    """Get one upstream."""
    return jsonify(_describe(name))


@blueprint.patch("/<path:name>")
def change_upstream(name: str) -> Response:
    """Enable or disable the upstream, move it in the order, or change its name or prefix."""
    changes = check_fields(read_body(), {"name": str, "enabled": bool, "place": int, "prefix": str})
    if changes.get("place", 1) < 1:
        raise GatewayError(400, "Places are counted from 1.", param="place", code="invalid_value")
    new_name = changes.pop("name", None)
    upstreams.change(current_gateway().services.database, name, new_name=new_name, **changes)
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
        }
        for position, row in enumerate(upstreams.all_rows(gateway.services.database), 1)
    ]
