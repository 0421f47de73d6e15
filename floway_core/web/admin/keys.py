"""``/admin/api/keys``: API keys of clients."""

from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, Response, jsonify

from floway_core.storage import keys
from floway_core.web import current_gateway
from floway_core.web.admin.fields import checked, read_body

blueprint = Blueprint("keys", __name__, url_prefix="/keys")

# What is chosen for a key is checked in the store, for the command line as well: hence the casts.


@blueprint.get("")
def list_keys() -> Response:
    """All keys, revoked ones too."""
    return jsonify({"data": [asdict(row) for row in keys.all_rows(current_gateway().services.database)]})


@blueprint.post("")
def create_key() -> tuple[Response, int]:
    """Make a key. It is in this answer, and never again."""
    given = read_body()
    name = checked({"name": given.pop("name", None)}, {"name": str}, required="name")["name"]
    key = keys.create(current_gateway().services.database, name, cast(keys.Options, given))
    return jsonify({**_shown(name), "key": key}), 201


@blueprint.get("/<path:name>")
def get_key(name: str) -> Response:
    """One key."""
    return jsonify(_shown(name))


@blueprint.patch("/<path:name>")
def change_key(name: str) -> Response:
    """Change what the key may do. What is left out stays; null takes a choice back."""
    keys.change(current_gateway().services.database, name, cast(keys.Options, read_body()))
    return jsonify(_shown(name))


@blueprint.post("/<path:name>/revoke")
def revoke_key(name: str) -> Response:
    """Refuse the key from now on."""
    keys.revoke(current_gateway().services.database, name)
    return jsonify(_shown(name))


@blueprint.delete("/<path:name>")
def delete_key(name: str) -> Response:
    """Remove the key and all conversations it has stored."""
    keys.delete(current_gateway().services.database, name)
    return Response(status=204)


def _shown(name: str) -> dict[str, Any]:
    return asdict(keys.find(current_gateway().services.database, name))
