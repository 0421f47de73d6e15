"""``/``: a description of this server, for browsers and probes."""

from flask import Blueprint, Response, jsonify

blueprint = Blueprint("root", __name__)


@blueprint.get("/")
def describe() -> Response:
    """Describe the server. This needs no API key and does not reveal the version."""
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
