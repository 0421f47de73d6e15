"""``/admin/api/groups``: groups of API keys, which share a budget."""

from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, Response, jsonify

from floway_core.administration import groups
from floway_core.administration.groups import GroupOptions
from floway_core.web import current_gateway
from floway_core.web.admin.fields import check_fields, read_body

blueprint = Blueprint("groups", __name__, url_prefix="/groups")

# The casts are not checked here: the store checks the options of a group, also for the command line.


@blueprint.get("")
def list_groups() -> Response:
    """List all groups, with what they have spent."""
    return jsonify({"data": [asdict(row) for row in groups.all_rows(current_gateway().services.database)]})


@blueprint.post("")
def add_group() -> tuple[Response, int]:
    """Add a group without keys."""
    options = read_body()
    name = check_fields({"name": options.pop("name", None)}, {"name": str}, required="name")["name"]
    groups.add(current_gateway().services.database, name, cast(GroupOptions, options))
    return jsonify(_describe(name)), 201


@blueprint.get("/<path:name>")
def get_group(name: str) -> Response:
    """Get one group."""
    return jsonify(_describe(name))


@blueprint.patch("/<path:name>")
def change_group(name: str) -> Response:
    """Change name or budget of the group. Options that are left out do not change; null resets one."""
    options = cast(GroupOptions, read_body())
    groups.change(current_gateway().services.database, name, options)
    return jsonify(_describe(options.get("name", name)))


@blueprint.delete("/<path:name>")
def remove_group(name: str) -> Response:
    """Remove a group that has no keys."""
    groups.remove(current_gateway().services.database, name)
    return Response(status=204)


def _describe(name: str) -> dict[str, Any]:
    return asdict(groups.find(current_gateway().services.database, name))
