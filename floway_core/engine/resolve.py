"""Which upstream serves a model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from floway_core.contexts import ApiKey, Upstream
from floway_core.errors import GatewayError
from floway_core.gateway import Gateway
from floway_core.provider import Model
from floway_core.store import upstreams


@dataclass(frozen=True)
class Candidate:
    """An upstream and a model that could serve a request."""

    upstream: Upstream
    model: Model


@dataclass(frozen=True)
class Offer:
    """What can be had at this moment."""

    candidates: tuple[Candidate, ...]
    """In the order in which upstreams are tried."""
    failed: Mapping[str, GatewayError]
    """Why the model list of an upstream could not be had, by its name."""


def offer(gateway: Gateway, api_key: ApiKey | None = None) -> Offer:
    """Every model of every enabled upstream whose provider is installed, as far as ``api_key`` may use it."""
    candidates: list[Candidate] = []
    failed: dict[str, GatewayError] = {}
    for upstream in upstreams.all_rows(gateway.services.database):
        provider = gateway.providers.by_kind.get(upstream.kind)
        if provider is None or not upstream.enabled:
            continue
        try:
            candidates += [Candidate(upstream, model) for model in provider.list_models(upstream)]
        except GatewayError as error:
            failed[upstream.name] = error
    return Offer(tuple(candidates), failed)


def candidates(gateway: Gateway, api_key: ApiKey, model: str) -> list[Candidate]:
    """The candidates for ``model`` that ``api_key`` may use, the preferred one first; at least one.

    :raises GatewayError: 404 ``model_not_found``; what the upstream's own failure was, when nothing can be had at all.
    """
    found = offer(gateway, api_key)
    fitting = [candidate for candidate in found.candidates if candidate.model.id == model]
    if not fitting:
        if not found.candidates and len(found.failed) == 1:
            raise next(iter(found.failed.values()))
        names = ", ".join(f'"{name}"' for name in found.failed)
        hint = f" (models from upstream(s) {names} failed to load)" if names else ""
        raise model_not_found(model, hint)
    return fitting


def model_not_found(model: str, hint: str = "") -> GatewayError:
    """The error for a model that nobody serves. ``hint`` goes before the final period."""
    message = f"Model {model} is not available on any configured upstream{hint}."
    return GatewayError(404, message, code="model_not_found", param="model")


def models(gateway: Gateway, api_key: ApiKey) -> Iterator[Model]:
    """Every model that ``api_key`` may ask for, once."""
    seen: set[str] = set()
    for candidate in offer(gateway, api_key).candidates:
        if candidate.model.id not in seen:
            seen.add(candidate.model.id)
            yield candidate.model
