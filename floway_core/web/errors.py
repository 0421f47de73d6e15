"""Convert all errors to responses, in the dialect of the request."""

import logging
import re

from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.web import current_request
from floway_core.web.request_log import CLIENT_CLOSED_REQUEST
from floway_core.web.unserved import SERVED, unserved_feature

log = logging.getLogger("floway")


def register_error_handlers(app: Flask) -> None:
    """Register handlers for all errors of the application."""
    app.register_error_handler(GatewayError, _gateway_error)
    app.register_error_handler(HTTPException, _http_error)
    for kind in DATABASE_ERRORS:
        app.register_error_handler(kind, _database_error)
    app.register_error_handler(ClientDisconnected, _client_disconnected)
    app.register_error_handler(Exception, _unexpected_error)


def _gateway_error(error: GatewayError) -> Response:
    request = current_request()
    request.log_entry.note_error(error)
    answer = request.gateway.dialects.encode_error(request.dialect, error, request.log_entry.id)
    headers = {**error.headers, **answer.headers}
    response = Response(answer.content, answer.status, headers, content_type=answer.content_type)
    for name, value in error.relayed_headers:
        response.headers.add(name, value)
    return response


def _http_error(error: HTTPException) -> Response:
    request, status = current_request(), error.code or 500
    if status == 404:
        return _gateway_error(_not_found(request.method, request.path))
    message = f"{error.name} for {request.method} {request.path}."
    methods = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    allowed = {"allow": ", ".join(methods)} if methods else {}
    code = {405: "method_not_allowed"}.get(status)
    return _gateway_error(GatewayError(status, message, code=code, headers=allowed))


def _not_found(method: str, path: str) -> GatewayError:
    message = f"{method} {path} does not exist."
    dialects = current_request().gateway.dialects
    if "//" in path:
        message = f"{message} It has a double slash."
    elif re.match("/v1(beta)?/v1(beta)?/", path):
        message = f"{message} It has the version twice: leave one out of the client's base URL."
    elif dialects.for_path(path) is None and (feature := unserved_feature(path)):
        message = f"{method} {path} is not served here: Floway does not offer {feature}. {SERVED}"
        return GatewayError(404, message, code="unsupported_endpoint")
    return GatewayError(404, message, code="not_found")


def _database_error(error: Exception) -> Response:
    log.error("The database failed: %s: %s", type(error).__name__, error)
    message = "The gateway's database does not respond."
    return _gateway_error(GatewayError(503, message, code="database_unavailable", headers={"retry-after": "1"}))


def _client_disconnected(error: ClientDisconnected) -> Response:
    return Response(status=CLIENT_CLOSED_REQUEST)


def _unexpected_error(error: Exception) -> Response:
    log.error("Request %s failed", current_request().log_entry.id, exc_info=error)
    return _gateway_error(GatewayError(500, "The gateway failed to serve this request.", code="internal_error"))
