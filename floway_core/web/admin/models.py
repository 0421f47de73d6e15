"""``/admin/api/models``: the models that clients can use, and the upstreams that serve them."""

from typing import Any

from flask import Blueprint, Response, jsonify

from floway_core.engine import routing
from floway_core.web import current_gateway

blueprint = Blueprint("models", __name__, url_prefix="/models")


@blueprint.get("")
def list_models() -> Response:
    """List all models and aliases with their upstreams, in the order in which these are tried."""
    catalogue = routing.list_offered(current_gateway())
    models: dict[str, dict[str, Any]] = {}
    for candidate in catalogue.candidates:
        model = candidate.model
        entry = models.setdefault(model.id, {"id": model.id, "owned_by": model.owned_by, "served_by": []})
        entry["served_by"].append({"upstream": candidate.upstream.name, "model": candidate.upstream_name})
    failed = [{"upstream": name, "error": error.message} for name, error in catalogue.failed.items()]
    return jsonify({"data": list(models.values()), "failed": failed})
