"""``/openapi.json``: the OpenAPI description of the gateway."""

import functools
from importlib.resources import files

from flask import Blueprint, Response

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Return the description. It is public like the documentation, so it needs no API key."""
    return Response(description(), mimetype="application/json")


@functools.cache
def description() -> bytes:
    """Return the file in the package."""
    return files("floway_core.web").joinpath("openapi.json").read_bytes()
