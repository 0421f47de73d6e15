"""The HTTP surface: thin views that parse, call the engine and answer."""

from typing import Any

from flask import Response, current_app
from werkzeug.datastructures import Headers

from floway_core.runtime.gateway import Gateway

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # or nginx would hold events back
}

RELAY = "floway.relay"
"""The name in the WSGI environment of the ``engine.relay.Relay`` that an answer comes from: a server that knows it
need not wait for the upstream in a thread."""


class PreparedResponse(Response):
    """An answer whose headers are sent as they stand: it leads nowhere else, and its length is known or not to be told.
    Others are looked through, and copied, once more."""

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        return self.headers


def current_gateway() -> Gateway:
    """The gateway of the application that serves the running request."""
    return current_app.extensions["floway"]
