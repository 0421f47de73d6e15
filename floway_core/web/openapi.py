"""``/openapi.json``: what this gateway serves, as an OpenAPI description."""

import functools
from importlib.resources import files

from flask import Blueprint, Response

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The description, which needs no key: it says nothing that the documentation does not say."""
    return Response(description(), mimetype="application/json")


@functools.cache
def description() -> bytes:
    """The file in the package."""
    return files("floway_core.web").joinpath("openapi.json").read_bytes()
