"""The HTTP surface: thin views that parse, call the engine and answer."""

from flask import current_app

from floway_core.gateway import Gateway


def current_gateway() -> Gateway:
    """The gateway of the application that serves the running request."""
    return current_app.extensions["floway"]
