"""The WSGI application."""

import logging
from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from types import FunctionType
from typing import Any

import pluggy
from flask import Blueprint, Flask, Request, Response, current_app, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.runtime import plugins
from floway_core.runtime.gateway import open_gateway
from floway_core.settings import Settings
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.web import admin, health, metrics, models, openapi, responses, root, stored, usage
from floway_core.web.admission import ConcurrencyLimit, refuse_if_overloaded
from floway_core.web.request_log import CLIENT_CLOSED_REQUEST, LoggedBody, RequestLogEntry
from floway_core.web.unserved import SERVED, unserved_feature

log = logging.getLogger("floway")

MOST_SERVER_NAMES, LONGEST_SERVER_NAME = 64, 255
"""How many are kept, and characters of one: clients choose them."""


class Application(Flask):
    """Flask's, which need not find out in every request what it has found out before."""

    _plain: frozenset[Callable] = frozenset()
    """Functions that are no coroutines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # No redirect: it would be absolute, and http behind a proxy that speaks TLS, and have the client send its key
        # there. A slash at the end changes nothing, and one too many in between leads nowhere.
        self.url_map.strict_slashes = self.url_map.merge_slashes = self.url_map.redirect_defaults = False
        self._server_names: dict[tuple[str, str], str] = {}
        """What scheme and host of a request make the name of this server, which redirects lead to."""

    def settle(self) -> None:
        """To be called when all functions have been registered."""
        hooks = [*self.before_request_funcs.values(), *self.after_request_funcs.values()]
        known = [*self.view_functions.values(), *(func for funcs in hooks for func in funcs)]
        functions = [func for func in known if isinstance(func, FunctionType)]
        self._plain = frozenset(func for func in functions if not iscoroutinefunction(func))

    def ensure_sync(self, func: Callable) -> Callable:
        """As Flask's, without looking into a function again."""
        return func if isinstance(func, FunctionType) and func in self._plain else super().ensure_sync(func)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """As Flask's, without making sense of a known host again. What finds routes for WebSockets, and does without a
        host, is left to Flask."""
        if request is None or "HTTP_HOST" not in request.environ or "HTTP_UPGRADE" in request.environ:
            return super().create_url_adapter(request)
        place = request.scheme, request.environ["HTTP_HOST"]
        name = self._server_names.get(place)
        if name is None:
            made = super().create_url_adapter(request)
            if len(self._server_names) < MOST_SERVER_NAMES and len(place[1]) < LONGEST_SERVER_NAME:
                self._server_names[place] = made.server_name
            return made
        script, path, query = (_decoded(request.environ, key) for key in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"))
        return MapAdapter(self.url_map, name, script, "", request.scheme, path, request.method, query)


def _decoded(environ: Mapping[str, str], name: str) -> str:
    """As Werkzeug does it: WSGI's texts are bytes in disguise."""
    return environ.get(name, "").encode("latin-1").decode(errors="replace")


def create_app(settings: Settings, manager: pluggy.PluginManager) -> Flask:
    """The application, ready to serve.

    :raises StartupError: the settings, a plugin or the database keep it from starting.
    """
    app = Application("floway_core", static_folder=None)
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
        *plugins.collect_blueprints(manager, Blueprint),
        root.blueprint,  # the last one, so that a plugin may have a page there
    ):
        app.register_blueprint(blueprint)
    app.register_blueprint(stored.blueprint, name="stored_without_v1", url_prefix="/responses")
    app.wsgi_app = ConcurrencyLimit(app.wsgi_app, settings.threads)
    app.before_request(_begin)
    app.after_request(_end)
    app.register_error_handler(GatewayError, _gateway_error)
    app.register_error_handler(HTTPException, _http_error)
    for kind in DATABASE_ERRORS:
        app.register_error_handler(kind, _database_error)
    app.register_error_handler(ClientDisconnected, _client_gone)
    app.register_error_handler(Exception, _unexpected)
    app.settle()
    return app


def _begin() -> None:
    current, at_end = request._get_current_object(), current_app.extensions["floway_at_end"]
    route = current.url_rule.rule if current.url_rule else None
    g.request_log = RequestLogEntry(current.method, current.path, route, on_close=list(at_end))
    refuse_if_overloaded(current.environ)


def _end(response: Response) -> Response:
    entry: RequestLogEntry = g.request_log
    entry.status = response.status_code
    entry.streamed = response.is_streamed
    response.headers["x-request-id"] = entry.id
    if not entry.streamed:
        entry.end()
        return response
    response.response = LoggedBody(response.response, entry)
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
        return _gateway_error(_not_found(request.method, request.path))
    message = f"{error.name} for {request.method} {request.path}."
    allowed = {"allow": ", ".join(error.valid_methods)} if getattr(error, "valid_methods", None) else {}
    code = {405: "method_not_allowed"}.get(status)
    return _gateway_error(GatewayError(status, message, code=code, headers=allowed))


def _not_found(method: str, path: str) -> GatewayError:
    message = f"There is nothing at {method} {path}."
    if "//" in path:
        message = f"{message} There is a slash too many."
    elif feature := unserved_feature(path):
        message = f"{method} {path} is not served here: Floway does not offer {feature}. {SERVED}"
        return GatewayError(404, message, code="unsupported_endpoint")
    return GatewayError(404, message, code="not_found")


def _database_error(error: Exception) -> Response:
    log.error("The database failed: %s: %s", type(error).__name__, error)
    message = "The gateway's database does not answer."
    return _gateway_error(GatewayError(503, message, code="database_unavailable", headers={"retry-after": "1"}))


def _client_gone(error: ClientDisconnected) -> Response:
    return Response(status=CLIENT_CLOSED_REQUEST)


def _unexpected(error: Exception) -> Response:
    log.exception("Request %s failed", g.request_log.id, exc_info=error)
    return _gateway_error(GatewayError(500, "The gateway failed to serve this request.", code="internal_error"))
