"""The blueprint that holds all pages, and what applies to all of them."""

import hashlib
import logging
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, g, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException

from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.storage.db import DATABASE_ERRORS
from floway_dashboard import filters, headers, pages
from floway_dashboard.access import guard
from floway_dashboard.page import page
from floway_dashboard.state import EXTENSION

log = logging.getLogger("floway.dashboard")

STATIC = Path(__file__).parent / "static"

TITLES = {
    401: "Signed out",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible",
    409: "Conflict",
    429: "Too many attempts",
    503: "Not available",
}
"""The heading of the page for an error, by its status."""


def build_blueprint(services: Services) -> Blueprint:
    """Return the dashboard."""
    root = Blueprint("dashboard", __name__, url_prefix=guard.PATH, template_folder="templates", static_folder="static")
    for blueprint in pages.BLUEPRINTS:
        root.register_blueprint(blueprint)
    root.add_url_rule("/<path:anything>", "unknown", _unknown)

    @root.record_once
    def set_up(state: BlueprintSetupState) -> None:
        state.app.extensions[EXTENSION] = services
        for name, function in filters.FILTERS.items():
            state.app.add_template_filter(function, f"as_{name}")
        state.app.add_template_global(static_url, "static_url")

    root.before_request(guard.check)
    root.after_request(headers.add_headers)
    root.register_error_handler(GatewayError, _gateway_error)
    root.register_error_handler(HTTPException, _http_error)
    for kind in DATABASE_ERRORS:
        root.register_error_handler(kind, _database_error)
    root.register_error_handler(Exception, _unexpected_error)
    return root


@cache
def _version(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def static_url(name: str) -> str:
    """Return the URL of a static file, which changes with its content."""
    return url_for("dashboard.static", filename=name, v=_version(name))


def _unknown(anything: str) -> Response:
    raise GatewayError(404, "There is no such page.")


# ------------------------------------------------------------------------------------------------------------ errors
def _gateway_error(error: GatewayError) -> Response:
    return _error_page(error.status, error.message, error.headers)


def _http_error(error: HTTPException) -> Response:
    return _error_page(error.code or 500, error.description or error.name)


def _database_error(error: Exception) -> Response:
    log.error("The database failed: %s: %s", type(error).__name__, error)
    g.dashboard_session = None  # the page needs no database
    return _error_page(503, "The gateway's database does not respond. Try again in a moment.")


def _unexpected_error(error: Exception) -> Response:
    log.error("A page failed: %s %s", request.method, request.path, exc_info=error)
    return _error_page(500, "This page has a fault. The log says more.")


def _error_page(status: int, message: str, extra: dict[str, str] | None = None) -> Response:
    response = page("dashboard/error.html", title=TITLES.get(status, "Error"), status=status, message=message)
    response.headers.update(extra or {})
    return response
