"""``/admin/api``: what the command line does, over HTTP, for whoever has the admin token."""

from flask import Blueprint, Response, request

from floway_core.errors import GatewayError
from floway_core.web import current_gateway
from floway_core.web.admin import aliases, health, keys, models, upstreams, usage
from floway_core.web.auth import authenticate_admin

PARTS = (keys.blueprint, upstreams.blueprint, aliases.blueprint, models.blueprint, usage.blueprint, health.blueprint)


def blueprint() -> Blueprint:
    """All of it. Register it only where an admin token is set."""
    admin = Blueprint("admin", __name__, url_prefix="/admin/api")
    for part in PARTS:
        admin.register_blueprint(part)
    admin.before_request(_check)
    admin.after_request(_keep_out_of_caches)
    return admin


def _check() -> None:
    authenticate_admin(current_gateway(), request)
    name = (request.view_args or {}).get("name", "")
    if not name.isprintable():  # nothing is named so, and PostgreSQL would not even look
        raise GatewayError(404, f"There is nothing named {name!r}.", param="name")


def _keep_out_of_caches(response: Response) -> Response:
    response.headers["cache-control"] = "no-store"
    return response
