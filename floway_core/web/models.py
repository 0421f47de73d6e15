"""``/v1/models``: the models that a client can use."""

from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from floway_core.engine import routing
from floway_core.provider import Model
from floway_core.web import current_gateway
from floway_core.web.auth import authenticate

blueprint = Blueprint("models", __name__)


@blueprint.get("/v1/models")
@blueprint.get("/models")
def list_models() -> Response:
    """List all models in the format of the OpenAI API.

    A client that sends ``?client_version`` gets the upstreams' own catalogue entries, ``{"models": [entry, ...]}``,
    of those upstreams that have them.
    """
    models = _allowed_models()
    if "client_version" in request.args:
        return jsonify({"models": [dict(model.details) for model in models if model.details]})
    return jsonify({"object": "list", "data": [_describe(model) for model in models]})


@blueprint.get("/v1/models/<path:model_id>")
@blueprint.get("/models/<path:model_id>")
def get_model(model_id: str) -> Response:
    """Get one model."""
    model_id = model_id.removesuffix(
        "/"
    )  # ids may hold slashes, so the route takes a trailing one for a part of the id
    for model in _allowed_models():
        if model.id == model_id:
            return jsonify(_describe(model))
    raise routing.model_not_found(model_id)


def _allowed_models() -> list[Model]:
    gateway = current_gateway()
    api_key = authenticate(gateway, request)
    g.request_log.key = api_key.name
    return list(routing.list_models(gateway, api_key))


def _describe(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
