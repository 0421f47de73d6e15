"""The WSGI application."""

from collections.abc import Iterable

import pluggy
from flask import Blueprint, Flask
from flask.json.provider import DefaultJSONProvider

from floway_core.engine.background import BackgroundRuns
from floway_core.runtime import plugins
from floway_core.runtime.dialects import CORE
from floway_core.runtime.gateway import Gateway, open_gateway
from floway_core.settings import Settings
from floway_core.web import (
    admin,
    conversations,
    health,
    metrics,
    openapi,
    root,
    stored,
    usage,
)
from floway_core.web.admission import ConcurrencyLimit
from floway_core.web.budget_metrics import BudgetCollector
from floway_core.web.errors import register_error_handlers
from floway_core.web.fast_flask import FastFlask
from floway_core.web.forwarding import register_forwarded_paths
from floway_core.web.gateway_request import GatewayRequest
from floway_core.web.lifecycle import RequestLifecycle
from floway_core.web.observers import result_reporter
from floway_core.web.operations import VIEWS
from floway_core.web.routing import (
    RouteTable,
    check_collisions,
    register_blueprints,
    register_dialect_routes,
)


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
    app.request_class = GatewayRequest
    # No redirects to the canonical URL. They are absolute, with http as the scheme behind a proxy that terminates TLS,
    # and the client would send its key there. A trailing slash makes no difference; a double slash is not found.
    app.url_map.strict_slashes = app.url_map.merge_slashes = app.url_map.redirect_defaults = False
    app.json = _CompactJSON(app)
    app.extensions["floway"] = gateway
    app.extensions["floway_background"] = BackgroundRuns(gateway)
    on_close = [usage.usage_counter(gateway)]
    if gateway.observers:
        on_close.append(result_reporter(gateway.observers))
    core_metrics = None
    blueprints = [stored.blueprint, conversations.blueprint, health.blueprint, openapi.blueprint]
    if settings.serves_metrics:
        app.extensions["floway_metrics"] = core_metrics = metrics.open_metrics()
        on_close.append(core_metrics.count)
        core_metrics.registry.register(BudgetCollector(gateway.services.database))
        plugins.register_metrics(manager, core_metrics.registry, gateway.providers.by_kind)
        blueprints.append(metrics.blueprint)
    if settings.admin_token is not None:
        blueprints.append(admin.blueprint())
    table = _add_routes(app, gateway, manager, blueprints)
    app.wsgi_app = ConcurrencyLimit(app.wsgi_app, settings.threads)  # type: ignore[method-assign]  # as Flask documents
    RequestLifecycle(gateway, table, core_metrics, on_close).register(app)
    register_error_handlers(app)
    return app


def _add_routes(app: Flask, gateway: Gateway, manager: pluggy.PluginManager, own: Iterable[Blueprint]) -> RouteTable:
    """Add all routes: those of dialects, core's ``own`` and the plugins'.

    :returns: the table of them.
    :raises PluginError: two of them match the same requests.
    """
    table = app.extensions["floway_routes"] = RouteTable(gateway.dialects)
    register_dialect_routes(app, table, VIEWS)
    register_forwarded_paths(app, table, gateway.providers)
    app.register_blueprint(stored.blueprint, name="stored_without_v1", url_prefix="/responses")
    app.register_blueprint(conversations.blueprint, name="conversations_without_v1", url_prefix="/conversations")
    register_blueprints(app, table, CORE, own)
    for plugin, blueprints in plugins.collect_blueprints(manager, Blueprint, gateway.services):
        register_blueprints(app, table, plugin, blueprints)
    register_blueprints(app, table, CORE, [root.blueprint])  # last, so that a plugin can replace the page
    check_collisions(app, table)
    app.extensions["floway_openapi"] = openapi.with_plugins(app, table)
    return table


class _CompactJSON(DefaultJSONProvider):
    compact = True
    sort_keys = False
