"""The routes of the application, of dialects and blueprints, and their owners."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pluggy
from flask import Blueprint, Flask, Request, Response, current_app
from werkzeug.routing import Rule

from floway_core.contexts import Services
from floway_core.dialect import Operation
from floway_core.errors import GatewayError
from floway_core.provider import ForwardedPath
from floway_core.runtime.dialects import CORE, Dialects, Endpoint, path_shape
from floway_core.runtime.plugins import PluginError, collect_blueprints
from floway_core.web import current_request
from floway_core.web.gateway_request import GatewayRequest

View = Callable[[GatewayRequest, Endpoint], Response]
"""Serves an operation of a dialect."""

AUTOMATIC_METHODS = frozenset({"HEAD", "OPTIONS"})
"""Methods that Flask adds automatically."""


@dataclass(frozen=True)
class RouteTable:
    """The routes that the application serves."""

    dialects: Dialects
    endpoints: dict[str, Sequence[Endpoint]] = field(default_factory=dict)
    """The routes of dialects that share a path and a method, by the name of Flask's endpoint. The path is registered
    with the rule of the first of them."""
    forwarded: dict[str, ForwardedPath] = field(default_factory=dict)
    """The paths that providers forward, by the name of Flask's endpoint."""
    owners: dict[str, str] = field(default_factory=dict)
    """The plugin of each endpoint of Flask, or ``CORE``."""

    def select(self, candidates: Sequence[Endpoint], request: Request) -> Endpoint:
        """Select the route of ``request`` among several routes for the same path.

        :raises GatewayError: 400, several dialects claim the request.
        """
        by_dialect = {endpoint.dialect: endpoint for endpoint in candidates}
        claiming = self.dialects.find_claiming(by_dialect, _header_names(request), request.args)
        if len(claiming) > 1:
            names = " and ".join(repr(dialect.name) for dialect in claiming)
            raise GatewayError(400, f"The request combines several API formats: {names}.", code="ambiguous_api")
        unclaimed = [dialect for dialect in by_dialect if not dialect.claims]
        return by_dialect[(claiming or unclaimed or [candidates[0].dialect])[0]]

    def arguments(self, endpoint: Endpoint, request: Request) -> dict[str, str]:
        """Return the variable parts of the path of ``request``, by the names that ``endpoint`` uses."""
        values = request.view_args or {}
        registered = self.endpoints[request.endpoint or ""][0]
        return {
            name: str(values[value])
            for name, value in zip(endpoint.argument_names, registered.argument_names, strict=True)
        }

    def find_dialect(self, request: GatewayRequest) -> None:
        """Find the dialect of ``request`` and, if it has one, its route, and store them in it.

        :raises GatewayError: 400, several dialects claim the request.
        """
        name = request.endpoint or ""
        request.dialect_endpoint, request.dialect = None, self.dialects.default  # for errors
        if candidates := self.endpoints.get(name):
            request.dialect_endpoint = candidates[0] if len(candidates) == 1 else self.select(candidates, request)
            request.dialect = request.dialect_endpoint.dialect
        elif self.owners.get(name) != CORE:
            request.dialect = self.dialects.for_error(request.path, _header_names(request), request.args)

    def is_plugin_view(self, name: str | None) -> bool:
        """Return whether a plugin itself serves a route, which core knows nothing of.

        :param name: Flask's endpoint; None if there is no such route.
        """
        if name is None or name in self.endpoints or name in self.forwarded:
            return False
        return self.owners.get(name) != CORE


def current_routes() -> RouteTable:
    """Return the table of the application that serves the current request."""
    table: RouteTable = current_app.extensions["floway_routes"]
    return table


def _header_names(request: Request) -> set[str]:
    names = request.headers.keys()  # the object itself iterates over pairs
    return {name.lower() for name in names}


# ------------------------------------------------------------------------------------------------------- registration
def register_dialect_routes(app: Flask, table: RouteTable, views: Mapping[Operation, View]) -> None:
    """Add the routes of all dialects. Routes of several dialects for the same paths are registered once."""
    groups: dict[tuple[str, str, bool], list[Endpoint]] = {}
    for endpoint in table.dialects.endpoints:
        for method in endpoint.route.http_methods:
            is_websocket = endpoint.route.operation is Operation.OPEN_WEBSOCKET
            groups.setdefault((path_shape(endpoint.route.rule), method, is_websocket), []).append(endpoint)
    for (shape, method, is_websocket), endpoints in groups.items():
        # A part that may contain slashes matches the paths of all these routes.
        endpoints.sort(key=lambda endpoint: "<path:" not in endpoint.route.rule)
        name = f"{method} {shape}".replace(".", "-")
        table.endpoints[name] = tuple(endpoints)
        table.owners[name] = table.dialects.owners[endpoints[0].dialect.name]
        rule = endpoints[0].route.rule
        view = _dispatch(views)
        app.add_url_rule(rule, endpoint=name, view_func=view, methods=[method])
        if is_websocket:  # Werkzeug routes requests for an upgrade separately
            app.add_url_rule(rule, endpoint=f"{name} websocket", view_func=view, websocket=True)
            table.endpoints[f"{name} websocket"] = tuple(endpoints)
            table.owners[f"{name} websocket"] = table.owners[name]


def _dispatch(views: Mapping[Operation, View]) -> Callable[..., Response]:
    def view(**_: str) -> Response:
        request = current_request()
        endpoint = cast(Endpoint, request.dialect_endpoint)
        return views[endpoint.route.operation](request, endpoint)

    return view


def register_blueprints(app: Flask, table: RouteTable, owner: str, blueprints: Iterable[Blueprint]) -> None:
    """Add blueprints of ``owner``, which is a plugin or ``CORE``.

    :raises PluginError: a name already exists.
    """
    for blueprint in blueprints:
        try:
            app.register_blueprint(blueprint)
        except ValueError as error:
            raise PluginError(f"Plugin {owner!r}: {' '.join(str(error).split())}") from error
    for rule in app.url_map.iter_rules():
        table.owners.setdefault(rule.endpoint, owner)


def check_collisions(app: Flask, table: RouteTable) -> None:
    """Check that no two routes match the same requests. A plugin may replace the page at ``/``.

    :raises PluginError: two routes do.
    """
    rules: dict[tuple[str, str], Rule] = {}
    for rule in app.url_map.iter_rules():
        kind = "websocket" if rule.websocket else ""
        for method in sorted((rule.methods or set()) - AUTOMATIC_METHODS):
            other = rules.setdefault((path_shape(rule.rule), kind or method), rule)
            if other.endpoint == rule.endpoint:
                continue
            owners = sorted((table.owners[other.endpoint], table.owners[rule.endpoint]), key=lambda name: name == CORE)
            if rule.rule == "/" and owners[0] != CORE and owners[1] == CORE:
                continue
            if owners[1] == CORE:
                raise PluginError(f"Plugin {owners[0]!r} serves {method} {rule.rule}, which core serves already.")
            raise PluginError(f"Plugins {owners[0]!r} and {owners[1]!r} both serve {method} {rule.rule}.")


def plugin_rules(app: Flask, table: RouteTable) -> list[tuple[str, Rule]]:
    """Return (plugin name, rule) of all routes that plugins add, in the order of their paths."""
    rules = [(table.owners[rule.endpoint], rule) for rule in app.url_map.iter_rules()]
    return sorted(
        ((owner, rule) for owner, rule in rules if owner != CORE and not rule.websocket), key=lambda pair: pair[1].rule
    )


def routes_of_plugins(manager: pluggy.PluginManager, services: Services, dialects: Dialects) -> dict[str, list[str]]:
    """Return the routes that each plugin adds, such as ``GET /v1/models``, by plugin.

    For a path that several dialects serve, the name of the dialect follows.
    """
    app, table = Flask("floway_core", static_folder=None), RouteTable(dialects)
    register_dialect_routes(app, table, {})
    for plugin, blueprints in collect_blueprints(manager, Blueprint, services):
        register_blueprints(app, table, plugin, blueprints)
    routes: dict[str, list[str]] = {}
    for rule in app.url_map.iter_rules():
        if rule.websocket:
            continue
        endpoints = table.endpoints.get(rule.endpoint, ())
        for method in sorted((rule.methods or set()) - AUTOMATIC_METHODS):
            for endpoint in endpoints:
                owner = dialects.owners[endpoint.dialect.name]
                shared = f" ({endpoint.dialect.name})" if len(endpoints) > 1 else ""
                routes.setdefault(owner, []).append(f"{method} {endpoint.route.rule}{shared}")
            if not endpoints:
                routes.setdefault(table.owners[rule.endpoint], []).append(f"{method} {rule.rule}")
    return {owner: sorted(set(served)) for owner, served in routes.items()}


def braced(rule: str) -> str:
    """Return a rule in the spelling of OpenAPI: ``/models/{model}``."""
    return re.sub(r"<(?:[^:<>]*:)?([^<>]+)>", r"{\1}", rule)
