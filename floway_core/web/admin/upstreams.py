"""``/admin/api/upstreams``: the upstreams and their order. Their credentials are for the commands of their plugins."""

from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.engine import routing
from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.web import current_gateway
from floway_core.web.admin.fields import checked, read_body

blueprint = Blueprint("upstreams", __name__, url_prefix="/upstreams")


@blueprint.get("")
def list_upstreams() -> Response:
    """All upstreams in the order in which they are tried."""
    return jsonify({"data": _all_shown()})


@blueprint.get("/<path:name>")
def get_upstream(name: str) -> Response:
    """One upstream."""
    return jsonify(_shown(name))


@blueprint.patch("/<path:name>")
def change_upstream(name: str) -> Response:
    """Enable or disable it, move it in the order, give it another name or prefix."""
    changes = checked(read_body(), {"name": str, "enabled": bool, "place": int, "prefix": str})
    if changes.get("place", 1) < 1:
        raise GatewayError(400, "Places are counted from 1.", param="place", code="invalid_value")
    new_name = changes.pop("name", None)
    upstreams.change(current_gateway().services.database, name, new_name=new_name, **changes)
    return jsonify(_shown(new_name or name))


@blueprint.post("/<path:name>/test")
def test_upstream(name: str) -> Response:
    """Ask it for its models now, with the credentials stored for it."""
    return jsonify({"name": name, "models": [model.id for model in routing.fetch_models(current_gateway(), name)]})


@blueprint.delete("/<path:name>")
def remove_upstream(name: str) -> Response:
    """Remove it and the credentials stored for it."""
    upstreams.remove(current_gateway().services.database, name)
    return Response(status=204)


def _shown(name: str) -> dict[str, Any]:
    found = next((shown for shown in _all_shown() if shown["name"] == name), None)
    if found is None:
        raise upstreams.unknown(name)
    return found


def _all_shown() -> list[dict[str, Any]]:
    gateway = current_gateway()
    tries = upstreams.last_tries(gateway.services.database)
    return [
        {
            "id": row.id,
            "name": row.name,
            "kind": row.kind,
            "enabled": row.enabled,
            "place": place,
            "prefix": row.prefix,
            "problem": gateway.unavailable_reason(row),
            **vars(tries.get(row.id, upstreams.NOT_TRIED)),
        }
        for place, row in enumerate(upstreams.all_rows(gateway.services.database), 1)
    ]
