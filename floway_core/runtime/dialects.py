"""Collect and check the dialects of core and of all plugins, and find the dialect of a request."""

import functools
import logging
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pluggy

from floway_core.contexts import Services
from floway_core.dialect import NO_CLAIMS, Dialect, ErrorAnswer, Operation, Route
from floway_core.errors import GatewayError
from floway_core.protocol import headers
from floway_core.responses_dialect import ResponsesDialect
from floway_core.runtime.lifecycle import Providers
from floway_core.runtime.plugins import PluginError, collect_lists

log = logging.getLogger("floway.plugins")

CORE = "core"
"""The owner of the Responses dialect, used like the name of a plugin."""

NEEDED_METHODS = {
    Operation.RESPOND: ("read", "response"),
    Operation.COMPACT: ("read", "compaction"),
    Operation.COUNT_TOKENS: ("read", "token_count"),
    Operation.LIST_MODELS: ("models",),
    Operation.GET_MODEL: ("model",),
    Operation.OPEN_WEBSOCKET: (),
}
"""The methods that a dialect must override for each operation that it serves."""

_VARIABLE = re.compile(r"<(?:[^:<>]*:)?([^<>]+)>")
"""A variable part of a rule, such as ``<path:model>``, and its name."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def path_shape(rule: str) -> str:
    """Return ``rule`` in a normal form: rules that match the same paths have equal forms."""
    return _VARIABLE.sub("<>", rule).rstrip("/") or "/"


@dataclass(frozen=True)
class Endpoint:
    """A route of a dialect."""

    dialect: Dialect
    route: Route

    @functools.cached_property
    def argument_names(self) -> tuple[str, ...]:
        """The names of the variable parts of the path, from left to right."""
        return tuple(_VARIABLE.findall(self.route.rule))


@dataclass(frozen=True)
class Dialects:
    """All dialects."""

    by_name: Mapping[str, Dialect]
    owners: Mapping[str, str]
    """Name of the plugin that registered the dialect, or ``CORE``, by name of the dialect."""
    endpoints: Sequence[Endpoint]
    """The routes of all dialects."""
    prefixes: Mapping[str, Dialect]
    """The dialect of errors, by the prefix of the path."""

    @property
    def default(self) -> Dialect:
        """The Responses dialect, for everything that no other dialect claims."""
        return self.by_name[ResponsesDialect.name]

    @functools.cached_property
    def credentials(self) -> frozenset[str]:
        """Names of all request headers with credentials of the client, in lower case."""
        return headers.CREDENTIALS.union(*(dialect.key_headers for dialect in self.by_name.values()))

    def find_claiming(
        self, candidates: Iterable[Dialect], headers: Container[str], query: Container[str]
    ) -> list[Dialect]:
        """Return those of ``candidates`` whose claims match a request."""
        return [dialect for dialect in candidates if dialect.claims.match(headers, query)]

    def for_path(self, path: str) -> Dialect | None:
        """Return the dialect with the longest prefix of ``path``; None if there is none."""
        while path:
            if dialect := self.prefixes.get(path):
                return dialect
            path = path.rpartition("/")[0]
        return None

    def for_error(self, path: str, headers: Container[str], query: Container[str]) -> Dialect:
        """Return the dialect for an error at a path that no route of a dialect serves."""
        if dialect := self.for_path(path):
            return dialect
        claiming = self.find_claiming(self.by_name.values(), headers, query)
        return claiming[0] if len(claiming) == 1 else self.default

    def encode_error(self, dialect: Dialect, error: GatewayError, request_id: str) -> ErrorAnswer:
        """Return ``error`` in the form of ``dialect``, or in OpenAI's if the dialect fails."""
        try:
            answer = dialect.error(error, request_id)
            if not isinstance(answer, ErrorAnswer):
                raise TypeError(f"error returned {answer!r}, which is not an ErrorAnswer")
            if not 400 <= answer.status < 600:
                raise ValueError(f"error returned the status {answer.status}, which is not one of an error")
            return answer
        except (Exception, SystemExit):  # a plugin may raise anything
            log.exception("The dialect %r of plugin %r failed in error", dialect.name, self.owners[dialect.name])
            return ErrorAnswer(error.status, error.content())


def build_dialects(manager: pluggy.PluginManager, services: Services) -> Dialects:
    """Collect the dialects of core and of all plugins.

    :raises PluginError: a dialect is unusable, or two of them cannot be distinguished.
    """
    responses = ResponsesDialect()
    by_name: dict[str, Dialect] = {responses.name: responses}
    owners = {responses.name: CORE}
    # mypy wants a concrete class where one is passed as a value; here it only serves isinstance.
    registered = collect_lists(manager, "register_dialects", Dialect, services=services)  # type: ignore[type-abstract]
    for plugin, dialects in registered:
        for dialect in dialects:
            _check_dialect(plugin, dialect)
            if dialect.name in owners:
                owner = owners[dialect.name]
                raise PluginError(f"Plugin {plugin!r} registers the dialect {dialect.name!r}, which {owner!r} has.")
            by_name[dialect.name], owners[dialect.name] = dialect, plugin
    endpoints = [Endpoint(dialect, route) for dialect in by_name.values() for route in dialect.routes()]
    _check_shared_paths(endpoints, owners)
    return Dialects(by_name, owners, endpoints, _collect_prefixes(by_name.values(), endpoints, owners))


def _check_dialect(plugin: str, dialect: Dialect) -> None:
    """:raises PluginError: the dialect is incomplete or malformed."""
    owner = f"Plugin {plugin!r}: the dialect {type(dialect).__name__}"
    if not _NAME.fullmatch(dialect.name):
        raise PluginError(f"{owner} has no lower-case name, but {dialect.name!r}.")
    routes = list(dialect.routes())
    for route in routes:
        if not isinstance(route, Route) or not route.rule.startswith("/"):
            raise PluginError(f"{owner} returns {route!r} from routes, which is not a Route with a path.")
        for method in NEEDED_METHODS[route.operation]:
            if getattr(type(dialect), method) is getattr(Dialect, method):
                raise PluginError(f"{owner} serves {route.rule} and lacks the method {method!r}.")
        if route.operation is Operation.GET_MODEL and "model" not in _VARIABLE.findall(route.rule):
            raise PluginError(f"{owner} serves {route.rule} for one model, which lacks the part '<path:model>'.")
    for name in dialect.key_headers:
        if name != name.lower() or not headers.NAME.fullmatch(name) or "_" in name:
            raise PluginError(f"{owner} has {name!r} among its key_headers, which is not a header name in lower case.")


def _check_shared_paths(endpoints: Iterable[Endpoint], owners: Mapping[str, str]) -> None:
    """:raises PluginError: two routes match the same requests, and no claim distinguishes these."""
    for first, other in combinations(endpoints, 2):
        shape, methods = path_shape(first.route.rule), set(first.route.http_methods)
        if shape != path_shape(other.route.rule) or not methods & set(other.route.http_methods):
            continue
        claims, other_claims = first.dialect.claims, other.dialect.claims
        common = {*claims.headers} & {*other_claims.headers} or {*claims.parameters} & {*other_claims.parameters}
        if first.dialect is other.dialect or common or claims == other_claims == NO_CLAIMS:
            route = f"{min(methods)} {other.route.rule}"
            names = _format_owners([first.dialect, other.dialect], owners)
            raise PluginError(f"The dialects {names} both serve {route}, and their claims do not tell them apart.")


def _format_owners(dialects: Iterable[Dialect], owners: Mapping[str, str]) -> str:
    """Return the names of dialects and of their plugins for an error message."""
    return " and ".join(f"{dialect.name!r} (of {owners[dialect.name]!r})" for dialect in dialects)


def _collect_prefixes(
    dialects: Iterable[Dialect], endpoints: Iterable[Endpoint], owners: Mapping[str, str]
) -> dict[str, Dialect]:
    """Return the dialect of each path prefix: those that dialects declare, and those of routes that are not shared.

    :raises PluginError: two dialects declare the same prefix.
    """
    declared: dict[str, Dialect] = {}
    for dialect in dialects:
        for prefix in dialect.prefixes:
            prefix = prefix.rstrip("/")
            if not prefix.startswith("/"):
                raise PluginError(f"The dialect {dialect.name!r} has the prefix {prefix!r}, which is not a path.")
            if (other := declared.setdefault(prefix, dialect)) is not dialect:
                names = _format_owners([other, dialect], owners)
                raise PluginError(f"The dialects {names} both have the prefix {prefix!r}.")
    by_path: dict[str, set[Dialect]] = {}
    for endpoint in endpoints:
        path = endpoint.route.rule.partition("<")[0]
        by_path.setdefault(path.rpartition("/")[0] if "<" in endpoint.route.rule else path, set()).add(endpoint.dialect)
    unshared = {path.rstrip("/"): next(iter(users)) for path, users in by_path.items() if len(users) == 1}
    return {**{path: dialect for path, dialect in unshared.items() if path}, **declared}


def check_underscore_headers(providers: Providers, dialects: Dialects) -> None:
    """:raises PluginError: a provider wants to read a header that may contain a client's key."""
    for kind, provider in providers.by_kind.items():
        for name in provider.underscore_headers:
            if not headers.is_readable_with_underscore(name, dialects.credentials):
                owner = providers.owners[kind]
                raise PluginError(f"Plugin {owner!r}: {name!r} cannot be one of the underscore_headers.")
