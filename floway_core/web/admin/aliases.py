"""``/admin/api/aliases``: other names for models."""

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.administration import aliases
from floway_core.errors import GatewayError
from floway_core.web import current_gateway
from floway_core.web.admin.fields import check_fields, read_body

blueprint = Blueprint("aliases", __name__, url_prefix="/aliases")

FIELDS = {"targets": list, "effort": str, "verbosity": str, "service_tier": str}


@blueprint.get("")
def list_aliases() -> Response:
    """List all aliases."""
    return jsonify({"data": [asdict(row) for row in aliases.all_rows(current_gateway().services.database)]})


@blueprint.get("/<path:name>")
def get_alias(name: str) -> Response:
    """Get one alias."""
    return jsonify(_describe(name))


@blueprint.put("/<path:name>")
def put_alias(name: str) -> Response:
    """Create the alias, or replace the one of this name."""
    fields = check_fields(read_body(), FIELDS, required="targets")
    targets = [_parse_target(index, target) for index, target in enumerate(fields.pop("targets"))]
    aliases.put(current_gateway().services.database, name, targets, aliases.Overrides(**fields))
    return jsonify(_describe(name))


@blueprint.delete("/<path:name>")
def remove_alias(name: str) -> Response:
    """Delete the alias."""
    aliases.remove(current_gateway().services.database, name)
    return Response(status=204)


def _parse_target(index: int, value: Any) -> tuple[str, str | None]:
    """:raises GatewayError: 400, ``value`` is not a target."""
    path = f"targets[{index}]"
    if not isinstance(value, dict):
        message = f"Invalid type for '{path}': expected an object."
        raise GatewayError(400, message, param=path, code="invalid_type")
    target = check_fields(value, {"model": str, "upstream": str}, required="model", prefix=f"{path}.")
    return target["model"], target.get("upstream")


def _describe(name: str) -> dict[str, Any]:
    return asdict(aliases.find(current_gateway().services.database, name))
