"""The settings of the gateway, and what ``floway doctor`` finds."""

import os

from flask import Blueprint, Response, request

from floway_core.administration import doctor as checks
from floway_core.administration.settings import list_settings
from floway_core.web import current_gateway
from floway_dashboard.page import page

blueprint = Blueprint("installation", __name__)

KINDS = {checks.OK: ("fine", "good"), checks.WARN: ("warning", "warn"), checks.FAIL: ("problem", "bad")}
"""What the status of a finding is called, and its colour."""


@blueprint.get("/settings")
def settings() -> Response:
    """Show the settings, without secrets."""
    gateway = current_gateway()
    rows = list_settings(gateway.settings, gateway.manager, os.environ)
    return page("dashboard/settings.html", title="Settings", settings=rows)


@blueprint.get("/doctor")
def doctor() -> Response:
    """Show findings. The checks send requests to all upstreams, so they run only when somebody asks for them."""
    results = list(checks.check_running(current_gateway(), os.environ)) if request.args.get("run") else None
    if results:
        results.sort(key=lambda result: list(KINDS)[::-1].index(result.status))
    return page("dashboard/doctor.html", title="Doctor", results=results, kinds=KINDS)
