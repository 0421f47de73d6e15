"""The results of ``floway doctor``."""

import os

from flask import Blueprint, Response, request

from floway_core.administration import doctor as checks
from floway_core.web import current_gateway
from floway_dashboard.page import page

blueprint = Blueprint("doctor", __name__, url_prefix="/doctor")

KINDS = {checks.FAIL: ("problem", "bad"), checks.WARN: ("warning", "warn"), checks.OK: ("fine", "good")}
"""The label and the colour of each status, the worst first."""


@blueprint.get("")
def index() -> Response:
    """Show the results of the checks. They send requests to all upstreams, so they run only with ``run``."""
    results = list(checks.check_running(current_gateway(), os.environ)) if request.args.get("run") else None
    if results:
        results.sort(key=lambda result: list(KINDS).index(result.status))
    return page("dashboard/doctor.html", title="Doctor", results=results, kinds=KINDS)
