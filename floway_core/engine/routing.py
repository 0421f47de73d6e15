"""Find the upstreams that serve a model, by aliases, prefixes, and the permissions of an API key."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from floway_core.contexts import ApiKey, Upstream
from floway_core.engine.model_lists import ModelLists, cached_lists, fetch_list, wait_for_lists
from floway_core.errors import GatewayError
from floway_core.prices import Price
from floway_core.provider import Model
from floway_core.runtime.gateway import Gateway
from floway_core.storage import aliases, last_use, upstreams
from floway_core.storage.aliases import NO_OVERRIDES, Alias, Overrides, Target


class Candidate(NamedTuple):
    """An upstream and a model that could serve a request."""

    upstream: Upstream
    model: Model
    """Its id is the name that clients use."""
    overrides: Overrides = NO_OVERRIDES
    """Fields of the request that an alias overrides."""

    @property
    def upstream_name(self) -> str:
        """The upstream's name for the model."""
        return self.model.upstream_name or self.model.id

    def price(self, prices: Mapping[str, Price]) -> Price | None:
        """Return the price of the model's tokens; None if it is unknown.

        :param prices: the operator's price table, which takes precedence.
        """
        return prices.get(self.model.id) or prices.get(self.upstream_name) or self.model.price


@dataclass(frozen=True)
class Catalogue:
    """The models that are offered now."""

    candidates: tuple[Candidate, ...]
    """First the models of upstreams, in the order in which these are tried; then aliases, by name."""
    failed: Mapping[str, GatewayError]
    """Upstreams whose model list could not be loaded, by name, and why."""


# ---------------------------------------------------------------------------------------------------------- one model
def find_candidates(gateway: Gateway, api_key: ApiKey, model: str) -> list[Candidate]:
    """Return the candidates for ``model`` that ``api_key`` may use, the preferred one first; at least one.

    :raises GatewayError: 404 ``model_not_found``; the error of the only upstream, if its model list cannot be loaded.
    """
    rows, alias = aliases.read_with_upstreams(gateway.services.database, model)
    usable = _usable_upstreams(gateway, rows, api_key)
    alias = alias or Alias(model, (Target(model),))
    if not _may_use(api_key, model):
        alias = Alias(model, ())  # the response must equal that for a model that does not exist
    lists = cached_lists(gateway, usable)
    candidates = _match(alias, usable, lists)
    if lists.missing:
        wait_for_lists(gateway, lists, is_sufficient=lambda: bool(_match(alias, usable, lists)))
        candidates = _match(alias, usable, lists)
    if not candidates:
        raise _not_served(model, lists)
    return with_known_price(gateway, api_key, model, candidates)


def with_known_price(gateway: Gateway, api_key: ApiKey, name: str, candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates that a key may use in view of its budget.

    :param name: what the client has requested, for the error.
    :raises GatewayError: 403 ``price_unknown``, there is none.
    """
    priced = [candidate for candidate in candidates if _may_spend(gateway, api_key, candidate)]
    if candidates and not priced:
        message = f"The price of {name} is unknown, and this API key has a budget. Its operator can state the price."
        raise GatewayError(403, message, param="model", code="price_unknown")
    return priced


def _may_spend(gateway: Gateway, api_key: ApiKey | None, candidate: Candidate) -> bool:
    return api_key is None or not api_key.needs_prices or candidate.price(gateway.prices) is not None


def find_upstreams(gateway: Gateway, api_key: ApiKey) -> list[Upstream]:
    """Return the upstreams that ``api_key`` may use, in the order in which they are tried."""
    with gateway.services.database.connection_context():
        return _usable_upstreams(gateway, upstreams.all_rows(gateway.services.database), api_key)


def _usable_upstreams(gateway: Gateway, rows: Iterable[Upstream], api_key: ApiKey | None) -> list[Upstream]:
    """Return the upstreams that are enabled, whose provider is installed, and that the key may use."""
    allowed = api_key.upstreams if api_key else None
    kinds = gateway.providers.by_kind
    return [row for row in rows if row.enabled and row.kind in kinds and (allowed is None or row.id in allowed)]


def _may_use(api_key: ApiKey | None, model: str) -> bool:
    """Return whether the key may use a model or alias. A key for an alias needs none for the alias's targets."""
    return api_key is None or api_key.models is None or model in api_key.models


def _match(alias: Alias, usable: Iterable[Upstream], lists: ModelLists) -> list[Candidate]:
    """Return the candidates for the targets of ``alias``: target by target, each in the order of the upstreams."""
    candidates: dict[tuple[str, str], Candidate] = {}
    for target in alias.targets:
        for upstream in usable:
            if target.upstream_id not in (None, upstream.id):
                continue
            name = _without_prefix(upstream, target.model)
            for model in lists.models.get(upstream.id, ()):
                if model.id == name:
                    candidate = Candidate(upstream, _rename(model, alias.name), alias.overrides)
                    candidates.setdefault((upstream.id, candidate.upstream_name), candidate)
                    break
    return list(candidates.values())


def _without_prefix(upstream: Upstream, model: str) -> str | None:
    """Return ``model`` without the prefix of ``upstream``; None if it has another prefix or none."""
    if not upstream.prefix:
        return model
    before, prefix, name = model.partition(f"{upstream.prefix}/")
    return name if prefix and not before else None


def _rename(model: Model, name: str) -> Model:
    """Return ``model`` under another name."""
    if name == model.id:
        return model
    return dataclasses.replace(model, id=name, upstream_name=model.upstream_name or model.id)


def _not_served(model: str, lists: ModelLists) -> GatewayError:
    if len(lists.failed) == 1 and not any(lists.models.values()):
        return next(iter(lists.failed.values())).with_traceback(None)
    names = ", ".join(f'"{name}"' for name in lists.failed)
    return model_not_found(model, f" (models from upstream(s) {names} failed to load)" if names else "")


def model_not_found(model: str, hint: str = "") -> GatewayError:
    """Return the error for a model that no upstream serves. ``hint`` is inserted before the final period."""
    message = f"Model {model} is not available on any configured upstream{hint}."
    return GatewayError(404, message, code="model_not_found", param="model")


# ---------------------------------------------------------------------------------------------------------- all models
def list_offered(gateway: Gateway, api_key: ApiKey | None = None, *, wait_for_all: bool = False) -> Catalogue:
    """Return every model and alias that ``api_key`` may use; without a key, all of them.

    An alias hides a model of the same name.

    :param wait_for_all: wait for all lists. Otherwise upstreams whose list takes long are omitted.
    """
    database = gateway.services.database
    with database.connection_context():
        all_aliases = aliases.all_aliases(database)
        usable = _usable_upstreams(gateway, upstreams.all_rows(database), api_key)
    lists = cached_lists(gateway, usable)
    if lists.missing:
        wait_for_lists(gateway, lists, is_sufficient=lambda: not wait_for_all and any(lists.models.values()))
    alias_names = {alias.name for alias in all_aliases}
    candidates = [candidate for candidate in _list_candidates(usable, lists) if candidate.model.id not in alias_names]
    candidates += [candidate for alias in all_aliases for candidate in _match(alias, usable, lists)]
    allowed = tuple(
        candidate
        for candidate in candidates
        if _may_use(api_key, candidate.model.id) and _may_spend(gateway, api_key, candidate)
    )
    return Catalogue(allowed, lists.failed)


def _list_candidates(usable: Iterable[Upstream], lists: ModelLists) -> Iterator[Candidate]:
    for upstream in usable:
        for model in lists.models.get(upstream.id, ()):
            name = f"{upstream.prefix}/{model.id}" if upstream.prefix else model.id
            yield Candidate(upstream, _rename(model, name))


def list_models(gateway: Gateway, api_key: ApiKey) -> Iterator[Model]:
    """Yield every model that ``api_key`` may use, once."""
    ids: set[str] = set()
    for candidate in list_offered(gateway, api_key).candidates:
        if candidate.model.id not in ids:
            ids.add(candidate.model.id)
            yield candidate.model


def fetch_models(gateway: Gateway, name: str) -> list[Model]:
    """Request the models of the upstream ``name`` now, without a cache. Their ids are the names that clients use.

    :raises GatewayError: 404, there is no such upstream; 409, its provider is not installed; or the upstream's failure.
    """
    upstream = upstreams.find(gateway.services.database, name)
    provider = gateway.providers.by_kind.get(upstream.kind)
    if provider is None:
        raise GatewayError(409, f"The provider {upstream.kind!r} of upstream {name!r} is not installed.")
    try:
        lists = ModelLists({upstream.id: fetch_list(provider, upstream)})
    except GatewayError as error:
        last_use.store_try(gateway.services.database, upstream.id, error.message)
        raise
    last_use.store_try(gateway.services.database, upstream.id)
    return [candidate.model for candidate in _list_candidates([upstream], lists)]
