"""Which upstreams serve a model: aliases, prefixes, and what an API key may use."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from floway_core.contexts import ApiKey, Upstream
from floway_core.engine.model_lists import ModelLists, cached_lists, wait_for_lists
from floway_core.errors import GatewayError
from floway_core.provider import Model
from floway_core.runtime.gateway import Gateway
from floway_core.storage import aliases, last_use, upstreams
from floway_core.storage.aliases import NO_OVERRIDES, Alias, Overrides, Target


@dataclass(frozen=True)
class Candidate:
    """An upstream and a model that could serve a request."""

    upstream: Upstream
    model: Model
    """Named as clients ask for it."""
    overrides: Overrides = NO_OVERRIDES
    """What is asked of it, whatever the client says."""

    @property
    def upstream_name(self) -> str:
        """The model as the upstream names it."""
        return self.model.upstream_name or self.model.id


@dataclass(frozen=True)
class Catalogue:
    """What can be had at this moment."""

    candidates: tuple[Candidate, ...]
    """Those of upstreams in the order in which they are tried, then those of aliases in theirs."""
    failed: Mapping[str, GatewayError]
    """Why the model list of an upstream could not be had, by its name."""


# ---------------------------------------------------------------------------------------------------------- one model
def find_candidates(gateway: Gateway, api_key: ApiKey, model: str) -> list[Candidate]:
    """The candidates for ``model`` that ``api_key`` may use, the preferred one first; at least one.

    :raises GatewayError: 404 ``model_not_found``; what the upstream's own failure was, when nothing can be had at all.
    """
    rows, alias = aliases.read_with_upstreams(gateway.services.database, model)
    usable = _usable(gateway, rows, api_key)
    alias = alias or Alias(model, (Target(model),))
    if not _may_use(api_key, model):
        alias = Alias(model, ())  # as if nobody served it, to the last byte
    lists = cached_lists(gateway, usable)
    found = _serving(alias, usable, lists)
    if lists.lacking:
        wait_for_lists(gateway, lists, enough=lambda: bool(_serving(alias, usable, lists)))
        found = _serving(alias, usable, lists)
    if not found:
        raise _not_served(model, lists)
    return found


def _usable(gateway: Gateway, rows: Iterable[Upstream], api_key: ApiKey | None) -> list[Upstream]:
    """Those that are enabled, that have a provider, and that the key may use."""
    allowed = api_key.upstreams if api_key else None
    known = gateway.providers.by_kind
    return [row for row in rows if row.enabled and row.kind in known and (allowed is None or row.id in allowed)]


def _may_use(api_key: ApiKey | None, model: str) -> bool:
    """A key is allowed names as clients ask for them; that of an alias includes what it stands for."""
    return api_key is None or api_key.models is None or model in api_key.models


def _serving(alias: Alias, usable: Iterable[Upstream], lists: ModelLists) -> list[Candidate]:
    """The candidates for what ``alias`` stands for: target by target, each in the order of the upstreams."""
    found: dict[tuple[str, str], Candidate] = {}
    for target in alias.targets:
        for upstream in usable:
            if target.upstream_id not in (None, upstream.id) or upstream.id not in lists.models:
                continue
            asked = _own_name(upstream, target.model)
            model = next((model for model in lists.models[upstream.id] if model.id == asked), None)
            if model:
                candidate = Candidate(upstream, _named(model, alias.name), alias.overrides)
                found.setdefault((upstream.id, candidate.upstream_name), candidate)
    return list(found.values())


def _own_name(upstream: Upstream, model: str) -> str | None:
    """``model`` without the prefix of ``upstream``; None when it is not one of its models."""
    if not upstream.prefix:
        return model
    before, prefix, name = model.partition(f"{upstream.prefix}/")
    return name if prefix and not before else None


def _named(model: Model, name: str) -> Model:
    """``model`` under another name, in the upstream's own catalogue entry, too."""
    if name == model.id:
        return model
    details = {key: name if value == model.id else value for key, value in model.details.items()}
    return dataclasses.replace(model, id=name, upstream_name=model.upstream_name or model.id, details=details)


def _not_served(model: str, lists: ModelLists) -> GatewayError:
    if len(lists.failed) == 1 and not any(lists.models.values()):
        return next(iter(lists.failed.values())).with_traceback(None)
    names = ", ".join(f'"{name}"' for name in lists.failed)
    return model_not_found(model, f" (models from upstream(s) {names} failed to load)" if names else "")


def model_not_found(model: str, hint: str = "") -> GatewayError:
    """The error for a model that nobody serves. ``hint`` goes before the final period."""
    message = f"Model {model} is not available on any configured upstream{hint}."
    return GatewayError(404, message, code="model_not_found", param="model")


# ---------------------------------------------------------------------------------------------------------- all models
def list_offered(gateway: Gateway, api_key: ApiKey | None = None, *, wait_for_all: bool = False) -> Catalogue:
    """Every model of every enabled upstream whose provider is installed, as far as ``api_key`` may use it.

    An alias takes the place of a model that has its name.

    :param wait_for_all: wait for every upstream; else one without a list is left out if that takes long.
    """
    database = gateway.services.database
    with database.connection_context():
        known = aliases.all_aliases(database)
        usable = _usable(gateway, upstreams.all_rows(database), api_key)
    lists = cached_lists(gateway, usable)
    if lists.lacking:
        wait_for_lists(gateway, lists, enough=lambda: not wait_for_all and any(lists.models.values()))
    taken = {alias.name for alias in known}
    found = [candidate for candidate in _models(usable, lists) if candidate.model.id not in taken]
    found += [candidate for alias in known for candidate in _serving(alias, usable, lists)]
    return Catalogue(tuple(candidate for candidate in found if _may_use(api_key, candidate.model.id)), lists.failed)


def _models(usable: Iterable[Upstream], lists: ModelLists) -> Iterator[Candidate]:
    for upstream in usable:
        for model in lists.models.get(upstream.id, ()):
            name = f"{upstream.prefix}/{model.id}" if upstream.prefix else model.id
            yield Candidate(upstream, _named(model, name))


def list_models(gateway: Gateway, api_key: ApiKey) -> Iterator[Model]:
    """Every model that ``api_key`` may ask for, once."""
    seen: set[str] = set()
    for candidate in list_offered(gateway, api_key).candidates:
        if candidate.model.id not in seen:
            seen.add(candidate.model.id)
            yield candidate.model


def fetch_models(gateway: Gateway, name: str) -> list[Model]:
    """The models of the upstream ``name``, as clients ask for them. It is asked now, whatever is cached.

    :raises GatewayError: 404, there is no such upstream; 409, its provider is not installed; what keeps it from
        answering.
    """
    upstream = upstreams.find(gateway.services.database, name)
    provider = gateway.providers.by_kind.get(upstream.kind)
    if provider is None:
        raise GatewayError(409, f"The provider {upstream.kind!r} of upstream {name!r} is not installed.")
    try:
        lists = ModelLists({upstream.id: provider.fetch_models(upstream)})
    except GatewayError as error:
        last_use.store_try(gateway.services.database, upstream.id, error.message)
        raise
    last_use.store_try(gateway.services.database, upstream.id)
    return [candidate.model for candidate in _models([upstream], lists)]
