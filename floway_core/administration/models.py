"""The models that clients can use, and the upstreams that serve them."""

from collections.abc import Mapping
from dataclasses import dataclass

from floway_core.engine import routing
from floway_core.errors import GatewayError
from floway_core.runtime.gateway import Gateway


@dataclass(frozen=True)
class Server:
    """An upstream that serves a model."""

    upstream: str
    """Its name."""
    model: str
    """Its own name for the model."""


@dataclass(frozen=True)
class OfferedModel:
    """A model or an alias, as clients request it."""

    id: str
    owned_by: str
    served_by: tuple[Server, ...]
    """In the order in which they are tried."""


@dataclass(frozen=True)
class Offer:
    """All models and aliases that clients can use now."""

    models: tuple[OfferedModel, ...]
    failed: Mapping[str, GatewayError]
    """Upstreams whose models could not be loaded, by name, and why."""


def list_models(gateway: Gateway, *, wait_for_all: bool = False) -> Offer:
    """List all models and aliases.

    :param wait_for_all: wait for every upstream's list. Otherwise an upstream whose list takes long is left out.
    """
    catalogue = routing.list_offered(gateway, wait_for_all=wait_for_all)
    owners: dict[str, str] = {}
    servers: dict[str, list[Server]] = {}
    for candidate in catalogue.candidates:
        owners.setdefault(candidate.model.id, candidate.model.owned_by)
        server = Server(candidate.upstream.name, candidate.upstream_name)
        servers.setdefault(candidate.model.id, []).append(server)
    models = tuple(OfferedModel(name, owners[name], tuple(serving)) for name, serving in servers.items())
    return Offer(models, catalogue.failed)
