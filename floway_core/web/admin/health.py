"""``/admin/api/health``: the state of all upstreams, with names."""

from flask import Blueprint, Response, jsonify

from floway_core import __version__
from floway_core.administration import upstreams
from floway_core.web import current_gateway

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("")
def get_health() -> Response:
    """Return which upstreams can serve, and why the others cannot; ``degraded`` if none can."""
    states = [
        {
            "name": state.upstream.name,
            "kind": state.upstream.kind,
            "enabled": state.upstream.enabled,
            "problem": state.details["problem"],
        }
        for state in upstreams.list_states(current_gateway())
    ]
    can_serve = any(state["enabled"] and state["problem"] is None for state in states)
    return jsonify({"status": "ok" if can_serve else "degraded", "version": __version__, "upstreams": states})
