"""The WSGI application."""

import logging

import pluggy
from flask import Blueprint, Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from floway_core import plugins
from floway_core.config import Settings
from floway_core.db import DATABASE_ERRORS
from floway_core.errors import ClientGone, GatewayError
from floway_core.gateway import open_gateway
from floway_core.routes import admin, health, metrics, models, openapi, responses, stored, usage
from floway_core.routes.load import Bounded, check_load
from floway_core.routes.log import CLIENT_CLOSED_REQUEST, Logged, RequestLog

log = logging.getLogger("floway")


def create_app(settings: Settings, manager: pluggy.PluginManager) -> Flask:
    """The application, ready to serve.

    :raises StartupError: the settings, a plugin or the database keep it from starting.
    """
    app = Flask("floway_core", static_folder=None)
    app.json.compact = True
    app.json.sort_keys = False
    gateway = app.extensions["floway"] = open_gateway(settings, manager)
    app.extensions["floway_at_end"] = [usage.counting(gateway)]
    if settings.serves_metrics:
        app.extensions["floway_metrics"] = counted = metrics.open_metrics()
        app.extensions["floway_at_end"].append(counted.count)
        plugins.register_metrics(manager, counted.registry, gateway.providers)
        app.register_blueprint(metrics.blueprint)
    if settings.admin_token is not None:
        app.register_blueprint(admin.blueprint())
    for blueprint in (
        responses.blueprint,
        stored.blueprint,
        models.blueprint,
        health.blueprint,
        openapi.blueprint,
        *plugins.blueprints(manager, Blueprint),
    ):
        app.register_blueprint(blueprint)
    app.wsgi_app = Bounded(app.wsgi_app, settings.threads)
    app.before_request(_begin)
    app.after_request(_end)
    app.register_error_handler(GatewayError, _gateway_error)
    app.register_error_handler(HTTPException, _http_error)
    for kind in DATABASE_ERRORS:
        app.register_error_handler(kind, _database_error)
    app.register_error_handler(ClientGone, _client_gone)
    app.register_error_handler(Exception, _unexpected)
    return app


def _begin() -> None:
    current, at_end = request._get_current_object(), current_app.extensions["floway_at_end"]
    route = current.url_rule.rule if current.url_rule else None
    g.request_log = RequestLog(current.method, current.path, route, at_end=list(at_end))
    check_load(current.environ)


def _end(response: Response) -> Response:
    entry: RequestLog = g.request_log
    entry.status = response.status_code
    entry.streamed = response.is_streamed
    response.headers["x-request-id"] = entry.id
    if not entry.streamed:
        entry.end()
        return response
    response.response = Logged(response.response, entry)
    if counted := current_app.extensions.get("floway_metrics"):
        counted.begin_stream()
    return response


# ------------------------------------------------------------------------------------- every failure in OpenAI's shape
def _gateway_error(error: GatewayError) -> Response:
    g.request_log.note_error(error)
    response = Response(error.content(), error.status, error.headers, mimetype="application/json")
    for name, value in error.relayed_headers:
        response.headers.add(name, value)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status == 404:
        message = f"There is nothing at {request.method} {request.path}."
    else:
        message = f"{error.name} for {request.method} {request.path}."
    allowed = {"allow": ", ".join(error.valid_methods)} if getattr(error, "valid_methods", None) else {}
    code = {404: "not_found", 405: "method_not_allowed"}.get(status)
    return _gateway_error(GatewayError(status, message, code=code, headers=allowed))


def _database_error(error: Exception) -> Response:
    log.error("The database failed: %s: %s", type(error).__name__, error)
    message = "The gateway's database does not answer."
    return _gateway_error(GatewayError(503, message, code="database_unavailable", headers={"retry-after": "1"}))


def _client_gone(error: ClientGone) -> Response:
    return Response(status=CLIENT_CLOSED_REQUEST)


def _unexpected(error: Exception) -> Response:
    log.exception("Request %s failed", g.request_log.id, exc_info=error)
    return _gateway_error(GatewayError(500, "The gateway failed to serve this request.", code="internal_error"))
