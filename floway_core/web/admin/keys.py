"""``/admin/api/keys``: the API keys of clients."""

from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, Response, jsonify

from floway_core.administration import keys
from floway_core.administration.keys import Options
from floway_core.web import current_gateway
from floway_core.web.admin.fields import check_fields, read_body

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

# The casts are not checked here: the store checks the options of a key, also for the command line.


@blueprint.get("")
def list_keys() -> Response:
    """List all keys, including revoked ones."""
    return jsonify({"data": [asdict(row) for row in keys.all_rows(current_gateway().services.database)]})


@blueprint.post("")
def create_key() -> tuple[Response, int]:
    """Create a key. Only this response contains it."""
    options = read_body()
    name = check_fields({"name": options.pop("name", None)}, {"name": str}, required="name")["name"]
    key = keys.create(current_gateway().services.database, name, cast(Options, options))
    return jsonify({**_describe(name), "key": key}), 201


@blueprint.get("/<path:name>")
def get_key(name: str) -> Response:
    """Get one key."""
    return jsonify(_describe(name))


@blueprint.patch("/<path:name>")
def change_key(name: str) -> Response:
    """Change options of the key. Missing options do not change; null resets an option."""
    keys.change(current_gateway().services.database, name, cast(Options, read_body()))
    return jsonify(_describe(name))


@blueprint.post("/<path:name>/revoke")
def revoke_key(name: str) -> Response:
    """Revoke the key: it is refused from now on."""
    keys.revoke(current_gateway().services.database, name)
    return jsonify(_describe(name))


@blueprint.delete("/<path:name>")
def delete_key(name: str) -> Response:
    """Delete the key and all its stored conversations."""
    keys.delete(current_gateway().services.database, name)
    return Response(status=204)


def _describe(name: str) -> dict[str, Any]:
    return asdict(keys.find(current_gateway().services.database, name))
