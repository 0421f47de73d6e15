"""``/admin/api/aliases``: names that stand for other models."""

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.errors import GatewayError
from floway_core.storage import aliases
from floway_core.web import current_gateway
from floway_core.web.admin.fields import checked, read_body

blueprint = Blueprint("aliases", __name__, url_prefix="/aliases")

FIELDS = {"targets": list, "effort": str, "verbosity": str, "service_tier": str}


@blueprint.get("")
def list_aliases() -> Response:
    """All aliases."""
    return jsonify({"data": [asdict(row) for row in aliases.all_rows(current_gateway().services.database)]})


@blueprint.get("/<path:name>")
def get_alias(name: str) -> Response:
    """One alias."""
    return jsonify(_shown(name))


@blueprint.put("/<path:name>")
def put_alias(name: str) -> Response:
    """Make the alias what the body says, whether there was one of this name or not."""
    given = checked(read_body(), FIELDS, required="targets")
    targets = [_target(place, target) for place, target in enumerate(given.pop("targets"))]
    aliases.put(current_gateway().services.database, name, targets, aliases.Overrides(**given))
    return jsonify(_shown(name))


@blueprint.delete("/<path:name>")
def remove_alias(name: str) -> Response:
    """Forget the alias."""
    aliases.remove(current_gateway().services.database, name)
    return Response(status=204)


def _target(place: int, given: Any) -> tuple[str, str | None]:
    within = f"targets[{place}]"
    if not isinstance(given, dict):
        message = f"Invalid type for '{within}': expected an object."
        raise GatewayError(400, message, param=within, code="invalid_type")
    target = checked(given, {"model": str, "upstream": str}, required="model", within=f"{within}.")
    return target["model"], target.get("upstream")


def _shown(name: str) -> dict[str, Any]:
    return asdict(aliases.find(current_gateway().services.database, name))
