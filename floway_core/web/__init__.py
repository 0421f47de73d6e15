"""The HTTP API: views that parse a request, call the engine and build the response."""

from typing import cast

from flask import current_app, request

from floway_core.conversation.input_limit import InputLimit
from floway_core.runtime.gateway import Gateway
from floway_core.web.gateway_request import GatewayRequest

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # without it, nginx would buffer events
}


def current_gateway() -> Gateway:
    """Return the gateway of the application that serves the current request."""
    gateway: Gateway = current_app.extensions["floway"]
    return gateway


def current_request() -> GatewayRequest:
    """Return the current request itself. Flask's ``request`` is a proxy, which looks it up for each attribute."""
    return cast(GatewayRequest, request._get_current_object())  # type: ignore[attr-defined]  # as Werkzeug documents


def read_limit() -> InputLimit:
    """Return what counts the stored data that the current request reads: its memory is limited, not its size."""
    return InputLimit(reserve=current_request().memory.add)
