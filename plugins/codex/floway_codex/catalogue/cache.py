"""The model lists of the upstreams, as routing asks for them: from memory, renewed behind the scenes."""

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

SOFT_AGE = 600
"""Seconds after which a list is renewed; it serves meanwhile."""
HARD_AGE = 24 * 3600
"""Seconds after which a list does not serve any more."""
RETRY_AFTER = 5
"""Seconds after a failure until the next try; requests meanwhile get the old list or the same failure."""
ETAG_AGE = 60
"""Seconds that a list is left alone even when answers name another etag."""

log = logging.getLogger("floway.codex")


class Source(Protocol):
    """Where lists come from."""

    def fetch(self, upstream: Upstream) -> ModelList:
        """Ask the backend.

        :raises GatewayError: the list cannot be had.
        """

    def stored(self, upstream: Upstream) -> ModelList | None:
        """What any process fetched last."""


@dataclass
class _Shelf:
    """The list of one upstream."""

    loading: threading.Lock = field(default_factory=threading.Lock)
    held: ModelList | None = None
    error: GatewayError | None = None
    """Why the last try failed."""
    next_try: float = 0.0
    etag: str = ""
    """What answers of the backend said last; empty as long as they say nothing."""


def _in_background(work: Callable[[], None]) -> None:
    # No daemon: that would end with the process, perhaps between the spending of a refresh token and the storing of the
    # next one.
    threading.Thread(target=work, name="codex-models").start()


@dataclass(frozen=True)
class Catalogue:
    """The model lists of all upstreams. One per process; shared by all threads."""

    source: Source
    now: Callable[[], float] = time.time
    background: Callable[[Callable[[], None]], None] = _in_background
    _shelves: dict[str, _Shelf] = field(default_factory=dict)

    def models(self, upstream: Upstream) -> Sequence[Model]:
        """The list of ``upstream``, as a rule at most ten minutes old.

        An older one is handed out while one thread renews it; without one, and with one of yesterday, requests wait.

        :raises GatewayError: there is none and it cannot be had.
        """
        shelf = self._shelf(upstream)
        if not self._serves(shelf):
            with shelf.loading:
                self._take_stored(upstream, shelf)
                if not self._serves(shelf):
                    self._ask(upstream, shelf)
        models = self.at_hand(upstream)
        assert models is not None
        return models

    def at_hand(self, upstream: Upstream) -> Sequence[Model] | None:
        """The list of ``upstream``; None before the first try. What is due is asked for in the background.

        :raises GatewayError: there is none, because the last try has failed.
        """
        shelf = self._shelf(upstream)
        if not self._serves(shelf) and shelf.error is None:
            self._take_stored(upstream, shelf)
            if not self._serves(shelf):
                return None
        if self._due(shelf) and shelf.loading.acquire(blocking=False):
            self._renew_in_background(upstream, shelf)
        held = shelf.held
        if held is not None and self._serves(shelf):
            return held.models
        assert shelf.error is not None
        raise shelf.error.with_traceback(None)

    def ask(self, upstream: Upstream) -> Sequence[Model]:
        """The list as the backend gives it now.

        :raises GatewayError: it gives none.
        """
        fetched = self.source.fetch(upstream)
        self._keep(upstream, self._shelf(upstream), fetched)
        return fetched.models

    def details(self, upstream: Upstream, slug: str) -> Mapping[str, Any]:
        """The catalogue entry of a model, as far as the list has been loaded before; else empty."""
        held = self._shelf(upstream).held
        return next((model.details for model in (held.models if held else ()) if model.id == slug), {})

    def compare(self, upstream: Upstream, etag: str | None) -> None:
        """Note the etag of the model list that an answer of the backend names (``x-models-etag``).

        When it is not the one of the list at hand, the next request has the list renewed, as the CLI does.
        """
        if etag:
            self._shelf(upstream).etag = etag

    def _shelf(self, upstream: Upstream) -> _Shelf:
        return self._shelves.get(upstream.id) or self._shelves.setdefault(upstream.id, _Shelf())

    def _serves(self, shelf: _Shelf) -> bool:
        return shelf.held is not None and self.now() < shelf.held.fetched_at + HARD_AGE

    def _due(self, shelf: _Shelf) -> bool:
        return self.now() >= shelf.next_try and not (shelf.held and self._current(shelf, shelf.held))

    def _current(self, shelf: _Shelf, held: ModelList) -> bool:
        """Whether ``held`` is young enough, and the one that answers of the backend name."""
        named = not shelf.etag or shelf.etag == held.etag
        return self.now() < held.fetched_at + (SOFT_AGE if named else ETAG_AGE)

    def _renew_in_background(self, upstream: Upstream, shelf: _Shelf) -> None:
        """``shelf.loading`` is held, and released at the end."""

        def work() -> None:
            try:
                self._take_stored(upstream, shelf)
                self._ask(upstream, shelf)
            except Exception:  # nobody else would hear of it
                log.exception("The models of upstream %s could not be renewed", upstream.name)
                shelf.next_try = self.now() + RETRY_AFTER
            finally:
                shelf.loading.release()

        try:
            self.background(work)
        except RuntimeError:  # no thread can be started just now
            shelf.loading.release()

    def _take_stored(self, upstream: Upstream, shelf: _Shelf) -> None:
        """Take what another process has fetched, or this one before it was started anew."""
        stored = self.source.stored(upstream)
        if stored and (shelf.held is None or stored.fetched_at > shelf.held.fetched_at):
            shelf.held = stored

    def _ask(self, upstream: Upstream, shelf: _Shelf) -> None:
        """Ask the backend, unless the list is current by now or the last try failed just now."""
        if not self._due(shelf):
            return
        try:
            self._keep(upstream, shelf, self.source.fetch(upstream))
        except GatewayError as error:
            if shelf.error is None or shelf.error.message != error.message:
                log.warning("The models of upstream %s could not be loaded: %s", upstream.name, error.message)
            shelf.error = error
            shelf.next_try = self.now() + RETRY_AFTER

    def _keep(self, upstream: Upstream, shelf: _Shelf, fetched: ModelList) -> None:
        if shelf.error is not None:
            log.info("The models of upstream %s could be loaded again", upstream.name)
        shelf.held, shelf.error = fetched, None
