"""A cache of the model lists of all upstreams. It refreshes them in the background."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from floway_codex.catalogue.source import ModelList
from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model

REFRESH_AFTER_SECONDS = 600
"""Age at which a list is refreshed; it is served meanwhile."""
MAX_AGE_SECONDS = 24 * 3600
"""Age from which a list is not served any more."""
RETRY_AFTER_SECONDS = 5
"""Time between a failure and the next try; meanwhile requests get the old list or the same error."""
ETAG_GRACE_SECONDS = 60
"""Age below which a list is not refreshed even if responses name another etag."""

log = logging.getLogger("floway.codex")


class ModelListSource(Protocol):
    """Where the cache loads lists from."""

    def fetch(self, upstream: Upstream) -> ModelList:
        """Fetch the list from the backend.

        :raises GatewayError: the list cannot be fetched.
        """

    def load_stored(self, upstream: Upstream) -> ModelList | None:
        """The list that any process fetched last; None if there is none."""


@dataclass
class _CachedList:
    """The cached list of one upstream."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that refreshes the list."""
    model_list: ModelList | None = None
    error: GatewayError | None = None
    """The error of the last try; None if it succeeded."""
    next_try: float = 0.0
    etag: str = ""
    """The etag that a response of the backend named last; empty if none did."""


def _run_in_thread(work: Callable[[], None]) -> None:
    # Not a daemon thread: the process could end it after a refresh token is spent and before the next one is stored.
    threading.Thread(target=work, name="codex-models").start()


@dataclass(frozen=True)
class Catalogue:
    """The model lists of all upstreams. One per process; shared by all threads."""

    source: ModelListSource
    now: Callable[[], float] = time.time
    background: Callable[[Callable[[], None]], None] = _run_in_thread
    _lists: dict[str, _CachedList] = field(default_factory=dict)

    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        """The models of ``upstream``, as a rule from a list that is at most ten minutes old.

        While one thread refreshes an older list, the others get the old one. Without a usable list they wait.

        :raises GatewayError: there is no usable list, and none can be fetched.
        """
        cached = self._cached(upstream)
        if not self._is_usable(cached):
            with cached.lock:
                self._load_stored(upstream, cached)
                if not self._is_usable(cached):
                    self._refresh(upstream, cached)
        models = self.cached_models(upstream)
        assert models is not None
        return models

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        """The models of ``upstream`` without waiting; None before the first try. Starts a background refresh if due.

        :raises GatewayError: there is no usable list, because the last try failed.
        """
        cached = self._cached(upstream)
        if not self._is_usable(cached) and cached.error is None:
            self._load_stored(upstream, cached)
            if not self._is_usable(cached):
                return None
        if self._is_due(cached) and cached.lock.acquire(blocking=False):
            self._refresh_in_background(upstream, cached)
        current = cached.model_list
        if current is not None and self._is_usable(cached):
            return current.models
        assert cached.error is not None
        raise cached.error.with_traceback(None)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        """Fetch the models from the backend now.

        :raises GatewayError: the list cannot be fetched.
        """
        model_list = self.source.fetch(upstream)
        self._replace(upstream, self._cached(upstream), model_list)
        return model_list.models

    def find_details(self, upstream: Upstream, slug: str) -> Mapping[str, Any]:
        """The catalogue entry of a model; empty if the model is unknown or no list is loaded."""
        current = self._cached(upstream).model_list
        return next((model.details for model in (current.models if current else ()) if model.id == slug), {})

    def note_etag(self, upstream: Upstream, etag: str | None) -> None:
        """Note the etag that a response of the backend named (``x-models-etag``).

        If the cached list has another etag, the next request starts a refresh, as in the CLI.
        """
        if etag:
            self._cached(upstream).etag = etag

    def _cached(self, upstream: Upstream) -> _CachedList:
        return self._lists.get(upstream.id) or self._lists.setdefault(upstream.id, _CachedList())

    def _is_usable(self, cached: _CachedList) -> bool:
        return cached.model_list is not None and self.now() < cached.model_list.fetched_at + MAX_AGE_SECONDS

    def _is_due(self, cached: _CachedList) -> bool:
        return self.now() >= cached.next_try and not (cached.model_list and self._is_current(cached, cached.model_list))

    def _is_current(self, cached: _CachedList, current: ModelList) -> bool:
        """Whether ``current`` needs no refresh, by its age and by the etag that responses name."""
        matches_etag = not cached.etag or cached.etag == current.etag
        return self.now() < current.fetched_at + (REFRESH_AFTER_SECONDS if matches_etag else ETAG_GRACE_SECONDS)

    def _refresh_in_background(self, upstream: Upstream, cached: _CachedList) -> None:
        """The caller holds ``cached.lock``; it is released at the end."""

        def work() -> None:
            try:
                self._load_stored(upstream, cached)
                self._refresh(upstream, cached)
            except Exception:  # nobody waits for this thread, so the log is the only place for it
                log.exception("The models of upstream %s could not be refreshed", upstream.name)
                cached.next_try = self.now() + RETRY_AFTER_SECONDS
            finally:
                cached.lock.release()

        try:
            self.background(work)
        except RuntimeError:  # no thread can be started at the moment
            cached.lock.release()

    def _load_stored(self, upstream: Upstream, cached: _CachedList) -> None:
        """Take the list from the database if it is newer: another process may have fetched it, or an earlier one."""
        stored = self.source.load_stored(upstream)
        if stored and (cached.model_list is None or stored.fetched_at > cached.model_list.fetched_at):
            cached.model_list = stored

    def _refresh(self, upstream: Upstream, cached: _CachedList) -> None:
        """Fetch the list, unless it has become current meanwhile or the last try failed just now."""
        if not self._is_due(cached):
            return
        try:
            self._replace(upstream, cached, self.source.fetch(upstream))
        except GatewayError as error:
            if cached.error is None or cached.error.message != error.message:
                log.warning("The models of upstream %s could not be loaded: %s", upstream.name, error.message)
            cached.error = error
            cached.next_try = self.now() + RETRY_AFTER_SECONDS

    def _replace(self, upstream: Upstream, cached: _CachedList, model_list: ModelList) -> None:
        if cached.error is not None:
            log.info("The models of upstream %s could be loaded again", upstream.name)
        cached.model_list, cached.error = model_list, None
