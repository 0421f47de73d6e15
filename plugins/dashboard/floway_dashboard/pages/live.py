"""Requests that run, and the latest ones."""

from flask import Blueprint, Response, make_response, render_template

from floway_dashboard.page import page
from floway_dashboard.recording import requests
from floway_dashboard.state import current_services

blueprint = Blueprint("live", __name__, url_prefix="/live")

ENDED_SHOWN = 100


@blueprint.get("")
def index() -> Response:
    """Show the requests of all workers."""
    return page("dashboard/live.html", title="Live requests", requests=_read())


@blueprint.get("/rows")
def rows() -> Response:
    """Return only the rows of the table, for the script that renews them."""
    return make_response(render_template("dashboard/live_rows.html", requests=_read()))


def _read() -> list[requests.LiveRequest]:
    return requests.read(current_services().database, ENDED_SHOWN)
