"""``/admin/api/models``: the models that clients can use, and the upstreams that serve them."""

from dataclasses import asdict

from flask import Blueprint, Response, jsonify

from floway_core.administration import models
from floway_core.web import current_gateway

blueprint = Blueprint("models", __name__, url_prefix="/models")


@blueprint.get("")
def list_models() -> Response:
    """List all models and aliases with their upstreams, in the order in which these are tried."""
    offer = models.list_models(current_gateway())
    failed = [{"upstream": name, "error": error.message} for name, error in offer.failed.items()]
    return jsonify({"data": [asdict(model) for model in offer.models], "failed": failed})
