"""``/healthz`` and ``/readyz``: whether the process is alive, and whether it can serve."""

from flask import Blueprint, Response, jsonify

from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.storage.db import DATABASE_ERRORS, limited_time
from floway_core.web import current_gateway

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return 200 as long as the process responds."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """Return 200 if the database responds; with the status ``degraded``, and why, if no upstream can serve.

    ``degraded`` is not a 503. All hosts share the accounts, so a load balancer would remove every host when a quota is
    used up, and clients would no longer get the error that says so. A restart would not help either.
    """
    gateway = current_gateway()
    database, seconds = gateway.services.database, 0.9 * gateway.settings.database_timeout
    try:
        with limited_time(database, seconds):
            rows = [row for row in upstreams.all_rows(database) if row.enabled]
            problems = [(row, gateway.find_problem(row)) for row in rows]
    except DATABASE_ERRORS:
        raise GatewayError(503, "The database does not respond.", code="database_unavailable") from None
    serving = [row for row, problem in problems if problem is None]
    # Names of upstreams are not public.
    public = [{"provider": row.kind, "problem": str(problem)} for row, problem in problems if problem]
    return jsonify(
        {
            "status": "ok" if serving else "degraded",
            "providers": sorted(gateway.providers.by_kind),
            "upstreams": len(serving),
            "problems": public,
        }
    )
