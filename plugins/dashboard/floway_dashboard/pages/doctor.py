"""What ``floway doctor`` finds."""

import os

from flask import Blueprint, Response, request

from floway_core.administration import doctor as checks
from floway_core.web import current_gateway
from floway_dashboard.page import page

blueprint = Blueprint("doctor", __name__, url_prefix="/doctor")

KINDS = {checks.FAIL: ("problem", "bad"), checks.WARN: ("warning", "warn"), checks.OK: ("fine", "good")}
"""What the status of a finding is called, and its colour; the worst comes first."""


@blueprint.get("")
def index() -> Response:
    """Show findings. The checks send requests to all upstreams, so they run only when somebody asks for them."""
    results = list(checks.check_running(current_gateway(), os.environ)) if request.args.get("run") else None
    if results:
        results.sort(key=lambda result: list(KINDS).index(result.status))
    return page("dashboard/doctor.html", title="Doctor", results=results, kinds=KINDS)
