"""The HTTP API: views that parse a request, call the engine and build the response."""

from typing import Any

from flask import Response, current_app
from werkzeug.datastructures import Headers

from floway_core.runtime.gateway import Gateway

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # without it, nginx would buffer events
}


class PreparedResponse(Response):
    """A response whose headers are sent unchanged.

    Werkzeug would copy them to make ``location`` absolute and to add ``content-length``. Here there is no location, and
    the length is set already or unknown.
    """

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers unchanged."""
        return self.headers


def current_gateway() -> Gateway:
    """Return the gateway of the application that serves the current request."""
    gateway: Gateway = current_app.extensions["floway"]
    return gateway
