"""The WSGI application."""

import logging
from collections.abc import Iterable
from typing import cast

import pluggy
from flask import Blueprint, Flask, Response, current_app, g, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.runtime import plugins
from floway_core.runtime.gateway import open_gateway
from floway_core.settings import Settings
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.web import admin, health, metrics, models, openapi, responses, root, stored, usage
from floway_core.web.admission import ConcurrencyLimit, refuse_if_overloaded
from floway_core.web.request_log import CLIENT_CLOSED_REQUEST, RequestLogEntry, watch_stream
from floway_core.web.unserved import SERVED, unserved_feature

log = logging.getLogger("floway")


def create_app(settings: Settings, manager: pluggy.PluginManager) -> Flask:
    """Create the application.

    :raises StartupError: the settings, a plugin or the database prevent it.
    """
    app = Flask("floway_core", static_folder=None)
    # No redirects to the canonical URL. They are absolute, with http as the scheme behind a proxy that terminates TLS,
    # and the client would send its key there. A trailing slash makes no difference; a double slash is not found.
    app.url_map.strict_slashes = app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    app.json = _CompactJSON(app)
    gateway = app.extensions["floway"] = open_gateway(settings, manager)
    app.extensions["floway_on_close"] = [usage.usage_counter(gateway)]
    if settings.serves_metrics:
        app.extensions["floway_metrics"] = core_metrics = metrics.open_metrics()
        app.extensions["floway_on_close"].append(core_metrics.count)
        plugins.register_metrics(manager, core_metrics.registry, gateway.providers)
        app.register_blueprint(metrics.blueprint)
    if settings.admin_token is not None:
        app.register_blueprint(admin.blueprint())
    for blueprint in (
        responses.blueprint,
        stored.blueprint,
        models.blueprint,
        health.blueprint,
        openapi.blueprint,
        *plugins.collect_blueprints(manager, Blueprint),
        root.blueprint,  # last, so that a plugin can replace the page
    ):
        app.register_blueprint(blueprint)
    app.register_blueprint(stored.blueprint, name="stored_without_v1", url_prefix="/responses")
    app.wsgi_app = ConcurrencyLimit(app.wsgi_app, settings.threads)  # type: ignore[method-assign]  # as Flask documents
    app.before_request(_begin)
    app.after_request(_end)
    app.register_error_handler(GatewayError, _gateway_error)
    app.register_error_handler(HTTPException, _http_error)
    for kind in DATABASE_ERRORS:
        app.register_error_handler(kind, _database_error)
    app.register_error_handler(ClientDisconnected, _client_disconnected)
    app.register_error_handler(Exception, _unexpected_error)
    return app


class _CompactJSON(DefaultJSONProvider):
    compact = True
    sort_keys = False


def _begin() -> None:
    route = request.url_rule.rule if request.url_rule else None
    on_close = list(current_app.extensions["floway_on_close"])
    g.request_log = RequestLogEntry(request.method, request.path, route, on_close=on_close)
    refuse_if_overloaded(request.environ)


def _end(response: Response) -> Response:
    entry: RequestLogEntry = g.request_log
    entry.status = response.status_code
    entry.streamed = response.is_streamed
    response.headers["x-request-id"] = entry.id
    if not entry.streamed:
        entry.end()
        return response
    response.response = watch_stream(cast(Iterable[bytes], response.response), entry)
    if core_metrics := current_app.extensions.get("floway_metrics"):
        core_metrics.begin_stream()
    return response


# ------------------------------------------------------------------- every error in the format of the Responses API
def _gateway_error(error: GatewayError) -> Response:
    g.request_log.note_error(error)
    response = Response(error.content(), error.status, error.headers, mimetype="application/json")
    for name, value in error.relayed_headers:
        response.headers.add(name, value)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    if status == 404:
        return _gateway_error(_not_found(request.method, request.path))
    message = f"{error.name} for {request.method} {request.path}."
    methods = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    allowed = {"allow": ", ".join(methods)} if methods else {}
    code = {405: "method_not_allowed"}.get(status)
    return _gateway_error(GatewayError(status, message, code=code, headers=allowed))


def _not_found(method: str, path: str) -> GatewayError:
    message = f"There is nothing at {method} {path}."
    if "//" in path:
        message = f"{message} It has a double slash."
    elif feature := unserved_feature(path):
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
    log.exception("Request %s failed", g.request_log.id, exc_info=error)
    return _gateway_error(GatewayError(500, "The gateway failed to serve this request.", code="internal_error"))
