"""The WSGI application."""

from collections.abc import Iterable
from typing import cast

import pluggy
from flask import Blueprint, Flask, Response, current_app, g
from flask.json.provider import DefaultJSONProvider

from floway_core.engine.background import BackgroundRuns
from floway_core.runtime import plugins
from floway_core.runtime.dialects import CORE
from floway_core.runtime.gateway import Gateway, open_gateway
from floway_core.settings import Settings
from floway_core.web import (
    admin,
    conversations,
    current_request,
    health,
    metrics,
    openapi,
    root,
    stored,
    usage,
    websocket,
)
from floway_core.web.admission import ConcurrencyLimit
from floway_core.web.budget_metrics import BudgetCollector
from floway_core.web.errors import register_error_handlers
from floway_core.web.fast_flask import FastFlask
from floway_core.web.forwarding import register_forwarded_paths
from floway_core.web.observers import result_reporter, trace_headers
from floway_core.web.operations import VIEWS
from floway_core.web.request_log import RequestLogEntry, watch_stream
from floway_core.web.routing import (
    RouteTable,
    check_collisions,
    find_dialect,
    register_blueprints,
    register_dialect_routes,
    serves_by_itself,
)
from floway_core.web.slots import acquire_slot


def create_app(settings: Settings, manager: pluggy.PluginManager) -> Flask:
    """Create the application and its gateway.

    :raises StartupError: the settings, a plugin or the database prevent it.
    """
    return build_app(open_gateway(settings, manager), manager)


def build_app(gateway: Gateway, manager: pluggy.PluginManager) -> Flask:
    """Build the application around ``gateway``.

    :raises StartupError: a plugin is at fault.
    """
    settings = gateway.settings
    app = FastFlask("floway_core", static_folder=None)
    # No redirects to the canonical URL. They are absolute, with http as the scheme behind a proxy that terminates TLS,
    # and the client would send its key there. A trailing slash makes no difference; a double slash is not found.
    app.url_map.strict_slashes = app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    app.json = _CompactJSON(app)
    app.extensions["floway"] = gateway
    app.extensions["floway_background"] = BackgroundRuns(gateway)
    app.extensions["floway_on_close"] = [usage.usage_counter(gateway)]
    if gateway.observers:
        app.extensions["floway_on_close"].append(result_reporter(gateway.observers))
    blueprints = [stored.blueprint, conversations.blueprint, health.blueprint, openapi.blueprint]
    if settings.serves_metrics:
        app.extensions["floway_metrics"] = core_metrics = metrics.open_metrics()
        app.extensions["floway_on_close"].append(core_metrics.count)
        core_metrics.registry.register(BudgetCollector(gateway.services.database))
        plugins.register_metrics(manager, core_metrics.registry, gateway.providers.by_kind)
        blueprints.append(metrics.blueprint)
    if settings.admin_token is not None:
        blueprints.append(admin.blueprint())
    _add_routes(app, gateway, manager, blueprints)
    app.wsgi_app = ConcurrencyLimit(app.wsgi_app, settings.threads)  # type: ignore[method-assign]  # as Flask documents
    app.before_request(_begin)
    app.after_request(_end)
    register_error_handlers(app)
    return app


def _add_routes(app: Flask, gateway: Gateway, manager: pluggy.PluginManager, own: Iterable[Blueprint]) -> None:
    """Add all routes: those of dialects, core's ``own`` and the plugins'.

    :raises PluginError: two of them match the same requests.
    """
    table = app.extensions["floway_routes"] = RouteTable(gateway.dialects)
    register_dialect_routes(app, table, VIEWS)
    register_forwarded_paths(app, table, gateway.providers)
    register_blueprints(app, table, CORE, own)
    app.register_blueprint(stored.blueprint, name="stored_without_v1", url_prefix="/responses")
    app.register_blueprint(conversations.blueprint, name="conversations_without_v1", url_prefix="/conversations")
    register_blueprints(app, table, CORE, [])
    for plugin, blueprints in plugins.collect_blueprints(manager, Blueprint, gateway.services):
        register_blueprints(app, table, plugin, blueprints)
    register_blueprints(app, table, CORE, [root.blueprint])  # last, so that a plugin can replace the page
    check_collisions(app, table)
    app.extensions["floway_openapi"] = openapi.with_plugins(app, table)


class _CompactJSON(DefaultJSONProvider):
    compact = True
    sort_keys = False


def _begin() -> None:
    request = current_request()
    environ, rule = request.environ, request.url_rule
    on_close = list(current_app.extensions["floway_on_close"])
    entry = g.request_log = RequestLogEntry(
        request.method,
        request.path,
        rule.rule if rule else None,
        on_close=on_close,
        shared_callbacks=len(on_close),
        prices=current_app.extensions["floway"].prices,
    )
    if websocket.session_of(environ) is not None:
        entry.transport = "websocket"
    entry.dialect = find_dialect(request).name
    entry.trace_headers = trace_headers(environ)
    if serves_by_itself(request.endpoint):  # the others take it when they have authenticated the client
        acquire_slot(environ)


def _end(response: Response) -> Response:
    entry: RequestLogEntry = g.request_log
    entry.status = response.status_code
    entry.streamed = response.is_streamed
    response.headers["x-request-id"] = entry.id
    if name := g.dialect.request_id_header:
        response.headers[name] = entry.id
    if not entry.streamed:
        entry.end()
        return response
    response.response = watch_stream(cast(Iterable[bytes], response.response), entry)
    if core_metrics := current_app.extensions.get("floway_metrics"):
        core_metrics.begin_stream()
    return response
