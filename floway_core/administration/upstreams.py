"""The upstreams: their states, order, connections and quotas."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from floway_core.administration.connection_fields import find_provider, read_changes, read_connection
from floway_core.contexts import Upstream
from floway_core.engine import routing
from floway_core.errors import GatewayError, NoModelList
from floway_core.provider import Model, Problem, Quota
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugin_calls import log_failures
from floway_core.storage import connections, upstreams
from floway_core.storage.configuration import configuration_of
from floway_core.storage.upstreams import NOT_TRIED, Try, remove

__all__ = [
    "ConnectionState",
    "Try",
    "UpstreamState",
    "add",
    "change",
    "explain",
    "find_state",
    "list_states",
    "read_quotas",
    "remove",
    "test",
]

log = logging.getLogger("floway")

NO_RESPONSE = "Check the address {address}, the network and proxies. Then: floway upstreams test {name}"
OTHER_FAILURE = "If it does not recover, see: floway {kind} --help. Then: floway upstreams test {name}"
REMEDIES = {
    "upstream_unreachable": NO_RESPONSE,
    "upstream_timeout": NO_RESPONSE,
    NoModelList.WRONG_ADDRESS: (
        "The address is probably wrong: the server at {address} has another API. "
        "See `floway config` and `floway {kind} --help`."
    ),
    NoModelList.CREDENTIALS_REFUSED: "Its credentials are wrong, or not for {address}. See: floway {kind} --help",
}
"""How to fix a failure, by the code of the error."""


@dataclass(frozen=True)
class ConnectionState:
    """The connection of an upstream with a URL and an API key, without its secrets."""

    base_url: str
    has_key: bool
    headers: tuple[str, ...]
    """Names only."""
    models: tuple[str, ...]
    """The models that the operator has entered; empty if the upstream lists them."""
    options: Mapping[str, str | bool]
    """The options that the provider declares, by name."""

    def as_dict(self) -> dict[str, Any]:
        """Return all values, for JSON."""
        return {**vars(self), "headers": list(self.headers), "models": list(self.models), "options": dict(self.options)}


@dataclass(frozen=True)
class UpstreamState:
    """The state of an upstream, as far as Floway knows it without a request to it."""

    upstream: Upstream
    place: int
    """Its position in the order in which upstreams are tried, from 1."""
    problem: Problem | None
    """Why it cannot serve; None if nothing is known to be wrong."""
    last_try: Try
    """The last request to it."""
    connection: ConnectionState | None
    """None if the provider needs none or stores it itself, and if it cannot be read."""

    @property
    def details(self) -> dict[str, Any]:
        """Return ``problem``, the last request and the connection as JSON, for commands and the admin API."""
        connection = self.connection.as_dict() if self.connection else {}
        return {"problem": str(self.problem) if self.problem else None, **asdict(self.last_try), **connection}


# ------------------------------------------------------------------------------------------------------------- reading
def list_states(gateway: Gateway) -> list[UpstreamState]:
    """List all upstreams in the order in which they are tried."""
    return [_read_state(gateway, *placed) for placed in _read_rows(gateway)]


def find_state(gateway: Gateway, name: str) -> UpstreamState:
    """Return one upstream.

    :raises GatewayError: 404, there is none of this name.
    """
    for row, place, last_try in _read_rows(gateway):
        if row.name == name:
            return _read_state(gateway, row, place, last_try)
    raise upstreams.unknown(name)


def _read_rows(gateway: Gateway) -> list[tuple[Upstream, int, Try]]:
    """Return all upstreams, their positions in the order from 1, and the last requests to them."""
    _refresh(gateway)
    tries = upstreams.last_tries(gateway.services.database)
    rows = upstreams.all_rows(gateway.services.database)
    return [(row, place, tries.get(row.id, NOT_TRIED)) for place, row in enumerate(rows, 1)]


def _read_state(gateway: Gateway, row: Upstream, place: int, last_try: Try) -> UpstreamState:
    return UpstreamState(row, place, gateway.find_problem(row), last_try, _read_connection(gateway, row))


def _read_connection(gateway: Gateway, upstream: Upstream) -> ConnectionState | None:
    provider = gateway.providers.by_kind.get(upstream.kind)
    if provider is None or provider.connection_options is None:
        return None
    try:
        connection = connections.read(gateway.services, upstream)
    except GatewayError:  # ``problem`` says why
        return None
    return ConnectionState(
        connection.base_url,
        connection.api_key is not None,
        tuple(sorted(connection.headers)),
        connection.models,
        connection.options,
    )


def _refresh(gateway: Gateway) -> None:
    """Let the providers see the present configuration. Requests of clients do so when they are authenticated."""
    configuration_of(gateway.services.database).refresh(gateway.services.database)


def read_quotas(gateway: Gateway, upstream: Upstream) -> Sequence[Quota]:
    """Return the limits of the account of an upstream, from the latest report; none if they cannot be read."""
    provider = gateway.providers.by_kind.get(upstream.kind)
    try:
        with log_failures(upstream, "read_quotas"):
            return provider.read_quotas(upstream) if provider else ()
    except GatewayError as error:
        log.info("The quotas of upstream %s cannot be read: %s", upstream.name, error.message)
    return ()


# ------------------------------------------------------------------------------------------------------------ changing
def add(gateway: Gateway, kind: str, name: str, prefix: str, fields: Mapping[str, Any]) -> None:
    """Add an upstream of any provider that needs no more than a URL and an API key.

    :param prefix: clients request ``prefix/model``; empty for none.
    :param fields: of ``CONNECTION_FIELDS``, with values of these types.
    :raises GatewayError: 400, with the name of the field; 409, the name is in use.
    """
    provider = find_provider(gateway, kind)
    declared = provider.connection_options
    if declared is None:
        if provider.signs_in:
            message = f"Upstreams of the provider {kind!r} are added by signing in: see `floway {kind} --help`."
            raise GatewayError(400, message, param="kind", code="invalid_value")
        upstreams.add(gateway.services.database, kind, name, prefix)
    else:
        connections.add(gateway.services, kind, name, read_connection(declared, fields), prefix)


def change(
    gateway: Gateway,
    name: str,
    fields: Mapping[str, Any],
    *,
    new_name: str | None = None,
    enabled: bool | None = None,
    prefix: str | None = None,
    place: int | None = None,
) -> None:
    """Change an upstream, with effect from the next request. None leaves a value unchanged.

    :param fields: of ``CONNECTION_FIELDS``, with values of these types.
    :param new_name: keys and aliases follow.
    :param place: its new position in the order, from 1; the others move up or down.
    :raises GatewayError: 400, with the name of the field; 404, there is no such upstream; 409, the new name is in use.
    """
    if place is not None and place < 1:
        raise GatewayError(400, "Places are counted from 1.", param="place", code="invalid_value")
    services = gateway.services
    upstream = upstreams.find(services.database, name)
    connection_changes = read_changes(gateway, upstream, fields) if fields else {}
    upstreams.change(services.database, name, new_name=new_name, enabled=enabled, prefix=prefix, place=place)
    if connection_changes:
        connections.change(services, upstream, **connection_changes)


def test(gateway: Gateway, name: str) -> list[Model]:
    """Request the models of an upstream now, with its stored credentials, whether it is enabled or not.

    :returns: the models, by the names that clients use.
    :raises GatewayError: 404, there is no such upstream; 409, its provider is not installed; or its failure, which
        ``explain`` explains.
    """
    _refresh(gateway)
    return routing.fetch_models(gateway, name)


def explain(gateway: Gateway, upstream: Upstream, error: GatewayError) -> Problem:
    """Return the reason for the failure of an upstream, and what to do about it."""
    problem = gateway.find_problem(upstream)
    if problem and problem.remedy and error.message.endswith(problem.remedy):
        return Problem(error.message.removesuffix(problem.remedy).rstrip(), problem.remedy)
    provider, address = gateway.providers.by_kind.get(upstream.kind), None
    # If there is no connection, ``error`` says so.
    with contextlib.suppress(GatewayError), log_failures(upstream, "base_url"):
        address = provider.base_url(upstream) if provider else None
    template = REMEDIES.get(error.code or "", OTHER_FAILURE)
    remedy = template.format(address=address or "its address", kind=upstream.kind, name=upstream.name)
    return Problem(error.message, remedy)
