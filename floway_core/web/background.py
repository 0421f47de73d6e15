"""Background responses over HTTP: create one, follow its events."""

from dataclasses import replace
from typing import Any

from flask import Response, current_app

from floway_core.contexts import ApiKey, ClientRequest
from floway_core.conversation import background
from floway_core.conversation.background import BackgroundResponse
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.load import expiry_cutoff
from floway_core.engine.background import BackgroundRuns
from floway_core.web import STREAM_HEADERS, current_gateway, current_request
from floway_core.web.fast_flask import PreparedResponse

METHOD = "BACKGROUND"
"""The method in the log line of a background response that has ended."""


def current_runs() -> BackgroundRuns:
    """Return the background responses of the application that serves the current request."""
    runs: BackgroundRuns = current_app.extensions["floway_background"]
    return runs


def find_background(key: ApiKey, response_id: str, limit: InputLimit | None = None) -> BackgroundResponse | None:
    """Return a background response of a key; None if there is none with this id.

    :param limit: counts the bytes of its response object.
    """
    gateway = current_gateway()
    oldest = expiry_cutoff(gateway.settings.retention_days)
    return background.find(gateway.services.database, key.id, response_id, oldest, limit)


def start(request: ClientRequest) -> dict[str, Any]:
    """Start a background response, and return the response object.

    Usage, limits, memory and results for plugins are counted when the response ends, not when the request ends.

    :raises GatewayError: the request is refused.
    """
    request_entry = current_request().log_entry
    run_entry = replace(request_entry, method=METHOD, status=200, on_close=list(request_entry.on_close))
    response = current_runs().start(request, run_entry.trace, streams=request.stream, on_end=run_entry.end)
    request_entry.hand_over()
    return response


def cancel(key: ApiKey, response: BackgroundResponse) -> BackgroundResponse:
    """Cancel a running response of a key; return its new state. It may have ended before the cancellation."""
    current_runs().cancel(response)
    return find_background(key, response.response_id) or response


def follow(key: ApiKey, response: BackgroundResponse, after: int) -> Response:
    """Return the events of a response after a sequence number, including future ones."""
    stream = current_runs().follow(key, response, after)
    return PreparedResponse(stream, headers=list(STREAM_HEADERS.items()), direct_passthrough=True)
