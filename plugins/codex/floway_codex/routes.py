"""The paths of the ChatGPT backend, for a codex CLI that has the gateway as its ``chatgpt_base_url``."""

from flask import Blueprint

from floway_core.web.models import list_models
from floway_core.web.responses import compact, create_response, websocket_refused


def blueprint() -> Blueprint:
    """``/backend-api/codex``: the gateway's own views under the paths of the backend."""
    routes = Blueprint("codex", __name__, url_prefix="/backend-api/codex")
    routes.add_url_rule("/responses", view_func=create_response, methods=["POST"])
    routes.add_url_rule("/responses/compact", view_func=compact, methods=["POST"])
    routes.add_url_rule("/responses", view_func=websocket_refused, methods=["GET"])
    # Werkzeug routes requests for an upgrade separately. After a 426 the CLI posts at once.
    routes.add_url_rule("/responses", view_func=websocket_refused, websocket=True)
    routes.add_url_rule("/models", view_func=list_models, methods=["GET"])
    return routes
