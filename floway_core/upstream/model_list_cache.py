"""The cache of model lists, for providers that request them over the network."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model

LIFETIME_SECONDS = 600
"""After this time a list is refreshed. The old one is used until there is a new one."""
RETRY_WAIT_SECONDS = 30
"""After a failure, the time until the next request."""

log = logging.getLogger("floway.models")


@dataclass
class _Entry:
    """The list of one upstream."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the list is requested."""
    models: Sequence[Model] | None = None
    failure: str = ""
    """Why the last request failed; empty if it succeeded."""
    expires_at: float = 0.0
    """When to request the list again, on the clock ``ModelListCache.now``."""


def _run_in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="model-lists", daemon=True).start()


@dataclass(frozen=True)
class ModelListCache:
    """The model lists of all upstreams of one provider: one object per process, shared by all threads.

    A list that has expired is refreshed in the background, and used until there is a new one.
    """

    fetch: Callable[[Upstream], Sequence[Model]]
    """Requests the list of an upstream; raises ``GatewayError``."""
    now: Callable[[], float] = time.monotonic
    background: Callable[[Callable[[], None]], None] = _run_in_background
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def wait_for(self, upstream: Upstream) -> Sequence[Model]:
        """Return the list of ``upstream``. If there is none yet, one thread requests it and the others wait for it.

        :raises GatewayError: there is no list, because it could not be loaded.
        """
        entry = self._entry(upstream)
        if entry.models is None:
            with entry.lock:
                if entry.models is None and self.now() >= entry.expires_at:
                    self._load(upstream, entry)
        models = self.cached(upstream)
        assert models is not None
        return models

    def cached(self, upstream: Upstream) -> Sequence[Model] | None:
        """Return the list of ``upstream`` without waiting; None before the first request. An expired list is refreshed
        in the background.

        :raises GatewayError: there is no list, because the last request failed.
        """
        entry = self._entry(upstream)
        if entry.models is None and not entry.failure:
            return None
        if self.now() >= entry.expires_at and entry.lock.acquire(blocking=False):
            self._refresh_in_background(upstream, entry)
        if entry.models is None:
            raise GatewayError(502, entry.failure, code="models_unavailable")
        return entry.models

    def refresh(self, upstream: Upstream) -> Sequence[Model]:
        """Request the list of ``upstream`` now, whatever is cached.

        :raises GatewayError: the request failed.
        """
        entry, models = self._entry(upstream), self.fetch(upstream)
        self._store(upstream, entry, models)
        return models

    def _entry(self, upstream: Upstream) -> _Entry:
        return self._entries.get(upstream.id) or self._entries.setdefault(upstream.id, _Entry())

    def _refresh_in_background(self, upstream: Upstream, entry: _Entry) -> None:
        """Request the list in another thread. The caller holds ``entry.lock``, and that thread releases it."""

        def work() -> None:
            try:
                self._load(upstream, entry)
            finally:
                entry.lock.release()

        try:
            self.background(work)
        except RuntimeError:  # the system has no thread left; the next caller tries again
            entry.lock.release()

    def _load(self, upstream: Upstream, entry: _Entry) -> None:
        try:
            self._store(upstream, entry, self.fetch(upstream))
        except GatewayError as error:
            self._note_failure(upstream, entry, error.message)
        except Exception:  # the fault of a provider must not make every request ask again
            log.exception("The provider of upstream %s failed to list its models", upstream.name)
            self._note_failure(upstream, entry, f"The provider of upstream {upstream.name!r} has a fault.")

    def _note_failure(self, upstream: Upstream, entry: _Entry, message: str) -> None:
        if message != entry.failure:
            log.warning("The models of upstream %s cannot be loaded: %s", upstream.name, message)
        entry.failure, entry.expires_at = message, self.now() + RETRY_WAIT_SECONDS

    def _store(self, upstream: Upstream, entry: _Entry, models: Sequence[Model]) -> None:
        if entry.failure:
            log.info("The models of upstream %s can be loaded again", upstream.name)
        entry.models, entry.failure = models, ""
        entry.expires_at = self.now() + LIFETIME_SECONDS
