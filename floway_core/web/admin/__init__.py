"""``/admin/api``: the operations of the command line over HTTP, for holders of the admin token."""

from flask import Blueprint, Response, request

from floway_core.errors import GatewayError
from floway_core.web import current_gateway
from floway_core.web.admin import aliases, groups, health, keys, models, upstreams, usage
from floway_core.web.auth import authenticate_admin

BLUEPRINTS = (
    keys.blueprint,
    groups.blueprint,
    upstreams.blueprint,
    aliases.blueprint,
    models.blueprint,
    usage.blueprint,
    health.blueprint,
)


def blueprint() -> Blueprint:
    """Return the whole admin API. Register it only if an admin token is set."""
    admin = Blueprint("admin", __name__, url_prefix="/admin/api")
    for child in BLUEPRINTS:
        admin.register_blueprint(child)
    admin.before_request(_authorize)
    admin.after_request(_forbid_caching)
    return admin


def _authorize() -> None:
    authenticate_admin(current_gateway(), request)
    name = (request.view_args or {}).get("name", "")
    if not name.isprintable():  # no such name exists, and PostgreSQL rejects some of these characters
        raise GatewayError(404, f"The name {name!r} does not exist.", param="name")


def _forbid_caching(response: Response) -> Response:
    response.headers["cache-control"] = "no-store"
    return response
