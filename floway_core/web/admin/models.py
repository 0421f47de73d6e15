"""``/admin/api/models``: what clients can ask for, and who serves it."""

from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.engine import routing
from floway_core.web import current_gateway

blueprint = Blueprint("models", __name__, url_prefix="/models")


@blueprint.get("")
def list_models() -> Response:
    """All models, aliases too, and the upstreams that serve them in the order in which those are tried."""
    offer = routing.list_offered(current_gateway())
    served: dict[str, dict[str, Any]] = {}
    for candidate in offer.candidates:
        model = candidate.model
        shown = served.setdefault(model.id, {"id": model.id, "owned_by": model.owned_by, "served_by": []})
        shown["served_by"].append({"upstream": candidate.upstream.name, "model": candidate.upstream_name})
    failed = [{"upstream": name, "error": error.message} for name, error in offer.failed.items()]
    return jsonify({"data": list(served.values()), "failed": failed})
