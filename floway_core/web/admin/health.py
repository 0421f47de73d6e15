"""``/admin/api/health``: what ``/readyz`` tells, with names."""

from flask import Blueprint, Response, jsonify

from floway_core import __version__
from floway_core.storage import upstreams
from floway_core.web import current_gateway

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("")
def get_health() -> Response:
    """Which upstreams can serve, and why the others cannot; ``degraded`` when none can."""
    gateway = current_gateway()
    shown = [
        {"name": row.name, "kind": row.kind, "enabled": row.enabled, "problem": gateway.unavailable_reason(row)}
        for row in upstreams.all_rows(gateway.services.database)
    ]
    serving = any(one["enabled"] and one["problem"] is None for one in shown)
    return jsonify({"status": "ok" if serving else "degraded", "version": __version__, "upstreams": shown})
