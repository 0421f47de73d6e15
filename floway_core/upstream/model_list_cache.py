"""The cache of model lists, for providers that request them over the network."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.provider import Model
from floway_core.storage.db import DATABASE_ERRORS

LIFETIME_SECONDS = 600
"""Age at which a list is refreshed. The old one is used until there is a new one."""
RETRY_WAIT_SECONDS = 30
"""After a failure, the time until the next request; meanwhile callers get the old list or the same error."""
ETAG_GRACE_SECONDS = 60
"""Age below which a list is not refreshed, even if the upstream has named another etag."""

log = logging.getLogger("floway.models")


@dataclass(frozen=True)
class ModelList:
    """A model list, and when the upstream sent it."""

    models: Sequence[Model]
    fetched_at: float
    """Unix time in seconds."""
    etag: str = ""
    """Empty if the upstream sent none."""


@dataclass
class _Entry:
    """The cached data of one upstream."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the list is requested."""
    current: ModelList | None = None
    error: GatewayError | None = None
    """Why the last request failed; None if it succeeded."""
    failed_at: float = 0.0
    etag: str = ""
    """The etag that the upstream has named last; empty if it named none."""


def _run_in_background(work: Callable[[], None]) -> None:
    # Not a daemon thread: the process must not exit while a provider renews a token.
    threading.Thread(target=work, name="model-lists").start()


def _load_nothing(upstream: Upstream) -> None:
    return None


@dataclass(frozen=True)
class ModelListCache:
    """The model lists of all upstreams of one provider: one object per process, shared by all threads.

    A list that has expired is refreshed in the background, and used until there is a new one.
    """

    fetch: Callable[[Upstream], ModelList]
    """Requests the list of an upstream, and stores it for ``load_stored``; raises ``GatewayError``."""
    load_stored: Callable[[Upstream], ModelList | None] = _load_nothing
    """Loads the list that any process has stored last, for example from the database. None if there is none."""
    max_age_seconds: float = math.inf
    """Age from which a list is not used any more, even if there is no other."""
    retry_wait_seconds: float = RETRY_WAIT_SECONDS
    now: Callable[[], float] = time.time
    background: Callable[[Callable[[], None]], None] = _run_in_background
    """Runs a refresh in another thread."""
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def wait_for(self, upstream: Upstream) -> Sequence[Model]:
        """Return the list of ``upstream``. If there is none yet, one thread requests it and the others wait for it.

        :raises GatewayError: there is no list, because it could not be loaded.
        """
        entry = self._entry(upstream)
        if self._usable(entry) is None:
            with entry.lock:
                self._load_stored(upstream, entry)
                if self._usable(entry) is None:
                    self._load(upstream, entry)
        models = self.cached(upstream)
        assert models is not None
        return models

    def cached(self, upstream: Upstream) -> Sequence[Model] | None:
        """Return the list of ``upstream`` without waiting for it; None before the first request. An expired list is
        refreshed in the background.

        :raises GatewayError: there is no list, because the last request failed.
        """
        entry = self._entry(upstream)
        error = entry.error  # read before the list: a thread that succeeds meanwhile writes them in the other order
        current = entry.current
        if error is None and current is not None and self._is_fresh(current, entry.etag):
            return current.models  # usually
        if error is None and self._usable(entry) is None:
            self._load_stored(upstream, entry)
        current = self._usable(entry)
        if current is None and error is None:
            return None
        if self._is_due(entry) and entry.lock.acquire(blocking=False):
            self._refresh_in_background(upstream, entry)
        if current is not None:
            return current.models
        assert error is not None
        raise error.with_traceback(None)

    def refresh(self, upstream: Upstream) -> Sequence[Model]:
        """Request the list of ``upstream`` now, without the cache.

        :raises GatewayError: the request failed.
        """
        model_list = self.fetch(upstream)
        self._replace(upstream, self._entry(upstream), model_list)
        return model_list.models

    def find(self, upstream: Upstream, model_id: str) -> Model | None:
        """Return a model of the list in memory; None if it is not in the list. Sends no request."""
        current = self._entry(upstream).current
        return next((model for model in current.models if model.id == model_id), None) if current else None

    def note_etag(self, upstream: Upstream, etag: str | None) -> None:
        """Record the etag of the list that another response of the upstream has named; None if it has named none.

        If the cached list has another etag, it is refreshed for the next caller.
        """
        if etag:
            self._entry(upstream).etag = etag

    def _entry(self, upstream: Upstream) -> _Entry:
        return self._entries.get(upstream.id) or self._entries.setdefault(upstream.id, _Entry())

    def _usable(self, entry: _Entry) -> ModelList | None:
        current = entry.current
        return current if current and self.now() - current.fetched_at < self.max_age_seconds else None

    def _is_fresh(self, current: ModelList, etag: str) -> bool:
        """Return whether a list can be used and is not due, if the last request has succeeded.

        :param etag: the one that the upstream has named last.
        """
        age = self.now() - current.fetched_at
        return 0 <= age < LIFETIME_SECONDS and age < self.max_age_seconds and etag in ("", current.etag)

    def _is_due(self, entry: _Entry) -> bool:
        """Return whether to request the list, by its age, by its etag, and by the last failure."""
        if entry.error and self._is_within(entry.failed_at, self.retry_wait_seconds):
            return False
        current = entry.current
        if current is None:
            return True
        has_named_etag = entry.etag in ("", current.etag)
        return not self._is_within(current.fetched_at, LIFETIME_SECONDS if has_named_etag else ETAG_GRACE_SECONDS)

    def _is_within(self, unix_time: float, seconds: float) -> bool:
        """Return whether ``unix_time`` is less than ``seconds`` ago; False in the future: the clock was set back."""
        return 0 <= self.now() - unix_time < seconds

    def _load_stored(self, upstream: Upstream, entry: _Entry) -> None:
        """Use the stored list if it is newer: another process may have stored it, or an earlier one."""
        stored_list = self.load_stored(upstream)
        if stored_list and (entry.current is None or stored_list.fetched_at > entry.current.fetched_at):
            entry.current = stored_list

    def _load(self, upstream: Upstream, entry: _Entry) -> None:
        """Request the list, unless another process has done so, or the last request has failed just now.

        :raises peewee.PeeweeException: the database failed, which is no fault of the upstream.
        """
        try:
            self._load_stored(upstream, entry)
            if self._is_due(entry):
                self._replace(upstream, entry, self.fetch(upstream))
        except GatewayError as error:
            if entry.error is None or entry.error.message != error.message:
                log.warning("The models of upstream %s cannot be loaded: %s", upstream.name, error.message)
            entry.failed_at, entry.error = self.now(), error
        except DATABASE_ERRORS:
            raise
        except (Exception, SystemExit):  # a failing provider must not be called again by each request
            log.exception("The provider of upstream %s failed to list its models", upstream.name)
            message = f"The provider of upstream {upstream.name!r} has failed: see the log."
            entry.failed_at, entry.error = self.now(), GatewayError(502, message, code="models_unavailable")

    def _refresh_in_background(self, upstream: Upstream, entry: _Entry) -> None:
        """Request the list in another thread. The caller holds ``entry.lock``, and that thread releases it."""

        def work() -> None:
            try:
                self._load(upstream, entry)
            except DATABASE_ERRORS as error:
                log.warning("The models of upstream %s could not be refreshed: %s", upstream.name, error)
            finally:
                entry.lock.release()

        try:
            self.background(work)
        except RuntimeError:  # the system has no thread left; the next caller tries again
            entry.lock.release()

    def _replace(self, upstream: Upstream, entry: _Entry, model_list: ModelList) -> None:
        if entry.error is not None:
            log.info("The models of upstream %s can be loaded again", upstream.name)
        entry.current, entry.error = model_list, None
