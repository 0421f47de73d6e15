"""Load the model lists of several upstreams, without a long wait for an upstream that does not respond."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from threading import Thread
from typing import TypeVar

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model, Provider
from floway_core.runtime.gateway import Gateway, PendingModelList
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.engine")

Listing = TypeVar("Listing", bound=Sequence[Model] | None)

FIRST_LIST_WAIT_SECONDS = 2.0
"""How long to wait for the first list of an upstream when the lists of others are sufficient."""


@dataclass
class ModelLists:
    """The model lists of some upstreams, and the upstreams whose lists are missing."""

    models: dict[str, Sequence[Model]] = field(default_factory=dict)
    """By upstream id."""
    failed: dict[str, GatewayError] = field(default_factory=dict)
    """Why a list could not be loaded, by name of the upstream."""
    missing: list[Upstream] = field(default_factory=list)
    """The upstreams whose list is not loaded yet or could not be loaded."""


def cached_lists(gateway: Gateway, upstreams: Collection[Upstream]) -> ModelLists:
    """Return the cached lists. Never blocks.

    :param upstreams: upstreams with an installed provider.
    """
    lists = ModelLists()
    for upstream in upstreams:
        models: Sequence[Model] | None = None
        try:
            models = _call_provider(gateway.providers.by_kind[upstream.kind].cached_models, upstream)
        except GatewayError as error:
            lists.failed[upstream.name] = error
            gateway.usage.last_use.note_try(upstream.id, error.message)
        if models is None:
            lists.missing.append(upstream)
        else:
            gateway.usage.last_use.note_recovery(upstream.id)
            lists.models[upstream.id] = models
    return lists


def wait_for_lists(gateway: Gateway, lists: ModelLists, is_sufficient: Callable[[], bool]) -> None:
    """Load the missing lists of ``lists`` in parallel.

    :param is_sufficient: whether ``lists`` contains the models that the caller needs. If so, lists that have failed are
        not loaded again, and the others get ``FIRST_LIST_WAIT_SECONDS``.
    """
    requested = [upstream for upstream in lists.missing if upstream.name not in lists.failed or not is_sufficient()]
    lists.missing = []
    loading = {pending.models: (upstream, pending) for upstream in requested for pending in [_load(gateway, upstream)]}
    while loading:
        remaining = None
        if is_sufficient():
            latest_start = max(pending.started for _, pending in loading.values())
            remaining = latest_start + FIRST_LIST_WAIT_SECONDS - time.monotonic()
            if remaining <= 0:
                break
        done = wait(loading, remaining, FIRST_COMPLETED).done
        if not done:
            break
        for future in done:
            upstream, _ = loading.pop(future)
            try:
                lists.models[upstream.id] = future.result()
                lists.failed.pop(upstream.name, None)
            except GatewayError as error:
                lists.failed[upstream.name] = error
    for upstream, _ in loading.values():
        message = f"The upstream {upstream.name!r} has not listed its models yet."
        lists.failed[upstream.name] = GatewayError(504, message, code="models_unavailable")


def _load(gateway: Gateway, upstream: Upstream) -> PendingModelList:
    """Start to load the list of ``upstream``, or join the load that is running."""
    pending = PendingModelList(Future(), time.monotonic())
    running = gateway.pending_model_lists.setdefault(upstream.id, pending)
    if running is not pending:
        return running

    def load() -> None:
        try:
            pending.models.set_result(_call_for_list(gateway.providers.by_kind[upstream.kind].list_models, upstream))
        except Exception as error:  # noqa: BLE001 - the threads that wait for the list raise it
            if isinstance(error, GatewayError):
                gateway.usage.last_use.note_try(upstream.id, error.message)
            pending.models.set_exception(error)
        finally:
            del gateway.pending_model_lists[upstream.id]

    try:
        # Not a daemon thread: the process must not exit while a provider renews a token.
        Thread(target=load, name="floway-models").start()
    except RuntimeError:  # no more threads can be started now
        load()
    return pending


def fetch_list(provider: Provider, upstream: Upstream) -> Sequence[Model]:
    """Request the models of ``upstream`` now.

    :raises GatewayError: the list cannot be loaded.
    """
    return _call_for_list(provider.fetch_models, upstream)


def _call_for_list(list_models: Callable[[Upstream], Sequence[Model]], upstream: Upstream) -> Sequence[Model]:
    """As ``_call_provider``, for a method that may not return None, though a plugin without types might."""

    def call(upstream: Upstream) -> Sequence[Model]:
        models: Sequence[Model] | None = list_models(upstream)
        if models is None:
            raise TypeError(f"{list_models.__name__} returned None")
        return models

    return _call_provider(call, upstream)


def _check_models(models: object) -> None:
    """:raises TypeError: this is no sequence of models."""
    kinds = set(map(type, models)) if isinstance(models, Sequence) else {type(models)}
    if wrong := [kind.__name__ for kind in kinds if not issubclass(kind, Model)]:
        raise TypeError(f"it returned {wrong[0]} objects instead of a sequence of Model objects")


def _call_provider(list_models: Callable[[Upstream], Listing], upstream: Upstream) -> Listing:
    """Call a provider's method. An exception of its plugin only affects this upstream.

    :raises GatewayError: the list cannot be loaded.
    """
    try:
        models = list_models(upstream)
        if models is not None:
            _check_models(models)
        return models
    except (GatewayError, *DATABASE_ERRORS):
        raise
    except (Exception, SystemExit) as error:  # a plugin may raise anything
        log.exception("Listing the models of upstream %s failed", upstream.name)
        message = f"The plugin of upstream {upstream.name!r} failed to list its models."
        raise GatewayError(502, message, code="models_unavailable") from error
