"""The HTTP surface: thin views that parse, call the engine and answer."""

from flask import current_app

from floway_core.gateway import Gateway

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # or nginx would hold events back
}

RELAY = "floway.relay"
"""The name in the WSGI environment of the ``engine.stream.Relay`` that an answer comes from: a server that knows it
need not wait for the upstream in a thread."""


def current_gateway() -> Gateway:
    """The gateway of the application that serves the running request."""
    return current_app.extensions["floway"]
