"""``/healthz`` and ``/readyz``: is the process alive, and can it serve."""

import peewee
from flask import Blueprint, Response, jsonify

from floway_core.errors import GatewayError
from floway_core.routes import current_gateway
from floway_core.store import upstreams

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 as long as the process answers."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
def readyz() -> Response:
    """200 when the database answers; what is still missing for the main job is told beside it."""
    gateway = current_gateway()
    try:
        rows = upstreams.all_rows(gateway.services.database)
    except (peewee.PeeweeException, ValueError):  # ValueError: the pool has no connection left
        raise GatewayError(503, "The database does not answer.", code="database_unavailable") from None
    usable = [row for row in rows if row.enabled and row.kind in gateway.providers.by_kind]
    return jsonify({"status": "ok", "providers": sorted(gateway.providers.by_kind), "upstreams": len(usable)})
