"""Requests that the gateway makes itself on behalf of an API key, for pages that let an operator try a model."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Response, current_app, request

from floway_core.protocol import jsontext
from floway_core.web.auth import ACTING_KEY
from floway_core.web.fast_flask import PreparedResponse

_OBJECTS_KEPT = frozenset({"gunicorn.socket", "wsgi.errors"})
"""Values of the WSGI environment that both requests share, besides texts and numbers."""


def post_as(key_name: str, path: str, body: Mapping[str, Any]) -> Response:
    """Serve a request as if a client had posted it with an API key, and return the answer, which may be a stream.

    Limits, permissions, log, metrics and usage are those of the key. The request ends when the client of the current
    request disconnects. Call it in a view, after checking that its caller may use every key.

    :param key_name: name of the key. If it does not exist, is revoked or has expired, the answer is a 401.
    :param path: such as ``/v1/responses``.
    :param body: will be sent as JSON.
    """
    content = jsontext.dumps(body)
    environ = {
        name: value
        for name, value in request.environ.items()
        if (isinstance(value, str | int | tuple) or name in _OBJECTS_KEPT)
        and not name.startswith(("HTTP_", "werkzeug.", "floway."))
    }
    environ |= {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "RAW_URI": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(content)),
        "HTTP_USER_AGENT": request.headers.get("user-agent", ""),
        "wsgi.input": io.BytesIO(content),
        "wsgi.input_terminated": True,
        ACTING_KEY: key_name,
    }
    head: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        head[:] = status, headers

    with current_app.app_context():  # of its own: it holds the log entry
        answer: Iterable[bytes] = current_app(environ, start_response)  # type: ignore[arg-type]  # write() is not used
    status, headers = head
    return PreparedResponse(answer, status, headers, direct_passthrough=True)
