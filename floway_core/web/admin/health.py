"""``/admin/api/health``: the state of all upstreams, with names."""

from flask import Blueprint, Response, jsonify

from floway_core import __version__
from floway_core.storage import upstreams
from floway_core.web import current_gateway

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("")
def get_health() -> Response:
    """Return which upstreams can serve, and why the others cannot; ``degraded`` if none can."""
    gateway = current_gateway()
    states = [
        {"name": row.name, "kind": row.kind, "enabled": row.enabled, "problem": gateway.unavailable_reason(row)}
        for row in upstreams.all_rows(gateway.services.database)
    ]
    can_serve = any(state["enabled"] and state["problem"] is None for state in states)
    return jsonify({"status": "ok" if can_serve else "degraded", "version": __version__, "upstreams": states})
