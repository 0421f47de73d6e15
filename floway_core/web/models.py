"""``/v1/models``: what can be asked for."""

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
    """All models: as OpenAI lists them, or, for a client that names its ``client_version``, as the upstream does.

    Such a client reads the catalogue in its native form, ``{"models": [entry, ...]}``, and only from upstreams that
    have one.
    """
    found = _models()
    if "client_version" in request.args:
        return jsonify({"models": [dict(model.details) for model in found if model.details]})
    return jsonify({"object": "list", "data": [_described(model) for model in found]})


@blueprint.get("/v1/models/<path:model_id>")
@blueprint.get("/models/<path:model_id>")
def get_model(model_id: str) -> Response:
    """One model."""
    model_id = model_id.removesuffix("/")  # ids hold slashes, so the one at the end of a path is taken for a part of it
    for model in _models():
        if model.id == model_id:
            return jsonify(_described(model))
    raise routing.model_not_found(model_id)


def _models() -> list[Model]:
    gateway = current_gateway()
    api_key = authenticate(gateway, request)
    g.request_log.key = api_key.name
    return list(routing.list_models(gateway, api_key))


def _described(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
