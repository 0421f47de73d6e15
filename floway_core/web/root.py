"""``/``: what this is, for whoever opens the address in a browser or probes it."""

from flask import Blueprint, Response, jsonify

blueprint = Blueprint("root", __name__)


@blueprint.get("/")
def describe() -> Response:
    """What is served here, and where it is described. Needs no key, and tells no version."""
    return jsonify(
        {
            "name": "Floway",
            "description": "A gateway for large language models that speaks the OpenAI Responses API.",
            "serves": {
                "responses": "/v1/responses",
                "models": "/v1/models",
                "description": "/openapi.json",
                "health": "/healthz",
            },
        }
    )
