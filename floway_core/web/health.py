"""``/healthz`` and ``/readyz``: is the process alive, and can it serve."""

from flask import Blueprint, Response, jsonify

from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.web import current_gateway

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 as long as the process answers."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """200 when the database answers; ``degraded`` when no upstream can serve, and why.

    That is no 503: all hosts share the accounts, so a balancer would take the last of them away for a quota that is
    used up, and clients would lose the answer that tells them. A restart would mend nothing either.
    """
    gateway = current_gateway()
    try:
        rows = [row for row in upstreams.all_rows(gateway.services.database) if row.enabled]
        problems = [(row, gateway.unavailable_reason(row)) for row in rows]
    except DATABASE_ERRORS:
        raise GatewayError(503, "The database does not answer.", code="database_unavailable") from None
    serving = [row for row, problem in problems if problem is None]
    told = [{"provider": row.kind, "problem": problem} for row, problem in problems if problem]  # names are nobody's
    return jsonify(
        {
            "status": "ok" if serving else "degraded",
            "providers": sorted(gateway.providers.by_kind),
            "upstreams": len(serving),
            "problems": told,
        }
    )
