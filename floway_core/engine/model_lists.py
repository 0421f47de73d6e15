"""The model lists of several upstreams, had without waiting long for one that does not answer."""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from threading import Thread
from typing import TypeVar

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model
from floway_core.runtime.gateway import Gateway, PendingModelList
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.engine")

Told = TypeVar("Told")

PATIENCE = 2.0
"""Seconds for which an upstream that has never told its models is waited for, although others will do."""


@dataclass
class ModelLists:
    """The lists of some upstreams, as far as they are known."""

    models: dict[str, Sequence[Model]] = field(default_factory=dict)
    """By upstream id."""
    failed: dict[str, GatewayError] = field(default_factory=dict)
    """Why a list could not be had, by the name of the upstream."""
    lacking: list[Upstream] = field(default_factory=list)
    """The upstreams that have told nothing yet, and those that failed."""


def cached_lists(gateway: Gateway, upstreams: Collection[Upstream]) -> ModelLists:
    """What is known at this moment. Never waits.

    :param upstreams: their providers are installed.
    """
    lists = ModelLists()
    for upstream in upstreams:
        try:
            models = _asked(gateway.providers.by_kind[upstream.kind].cached_models, upstream)
        except GatewayError as error:
            lists.failed[upstream.name], models = error, None
            gateway.usage.last_use.note_try(upstream.id, error.message)
        if models is None:
            lists.lacking.append(upstream)
        else:
            gateway.usage.last_use.note_recovery(upstream.id)
            lists.models[upstream.id] = models
    return lists


def wait_for_lists(gateway: Gateway, lists: ModelLists, enough: Callable[[], bool]) -> None:
    """Wait for what is lacking in ``lists``, all of it at the same time.

    :param enough: says whether ``lists`` will do. Then those that failed are left alone, and new ones are waited for
        no longer than ``PATIENCE``.
    """
    asked = [upstream for upstream in lists.lacking if upstream.name not in lists.failed or not enough()]
    lists.lacking = []
    loading = {one.models: (upstream, one) for upstream in asked for one in [_load(gateway, upstream)]}
    while loading:
        left = None
        if enough():
            left = max(one.started for _, one in loading.values()) + PATIENCE - time.monotonic()
        done = () if left is not None and left <= 0 else wait(loading, left, FIRST_COMPLETED).done
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
        message = f"The upstream {upstream.name!r} has not told its models yet."
        lists.failed[upstream.name] = GatewayError(504, message, code="models_unavailable")


def _load(gateway: Gateway, upstream: Upstream) -> PendingModelList:
    """The list of ``upstream``, as all get it who wait for it now."""
    mine = PendingModelList(Future(), time.monotonic())
    running = gateway.pending_model_lists.setdefault(upstream.id, mine)
    if running is not mine:
        return running

    def work() -> None:
        try:
            mine.models.set_result(_asked(gateway.providers.by_kind[upstream.kind].list_models, upstream))
        except Exception as error:  # it belongs to those who wait
            if isinstance(error, GatewayError):
                gateway.usage.last_use.note_try(upstream.id, error.message)
            mine.models.set_exception(error)
        finally:
            del gateway.pending_model_lists[upstream.id]

    try:
        # No daemon, which would end with the process: a provider may be renewing a token first.
        Thread(target=work, name="floway-models").start()
    except RuntimeError:  # no thread can be started just now
        work()
    return mine


def _asked(ask: Callable[[Upstream], Told], upstream: Upstream) -> Told:
    """What a provider says. A fault of its plugin is a failure of this upstream, and no other's.

    :raises GatewayError: the list cannot be had.
    """
    try:
        return ask(upstream)
    except (GatewayError, *DATABASE_ERRORS):
        raise
    except Exception as error:  # a stranger's code may fail in any way
        log.exception("The models of upstream %s cannot be had", upstream.name)
        message = f"The plugin of upstream {upstream.name!r} cannot tell its models."
        raise GatewayError(502, message, code="models_unavailable") from error
