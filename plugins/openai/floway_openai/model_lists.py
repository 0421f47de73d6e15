"""The model lists of the upstreams, as routing asks for them: from memory, renewed behind the scenes."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError, NoModelList
from floway_core.protocol import jsontext
from floway_core.provider import Model

LIFETIME = 600
"""Seconds after which a list is renewed; the old one serves meanwhile, and as long as there is no other."""
RETRY_AFTER = 30
"""Seconds after a failure until the next try."""

log = logging.getLogger("floway.openai")


@dataclass
class _Shelf:
    """The list of one upstream."""

    loading: threading.Lock = field(default_factory=threading.Lock)
    models: Sequence[Model] | None = None
    failure: str = ""
    """Why the last try failed; empty when it did not."""
    due: float = 0.0
    """When to ask again."""


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="openai-models", daemon=True).start()


@dataclass(frozen=True)
class ModelLists:
    """One per process; shared by all threads."""

    fetch: Callable[[Upstream], Sequence[Model]]
    """Asks an upstream; raises ``GatewayError``."""
    now: Callable[[], float] = time.monotonic
    background: Callable[[Callable[[], None]], None] = _in_background
    _shelves: dict[str, _Shelf] = field(default_factory=dict)

    def models(self, upstream: Upstream) -> Sequence[Model]:
        """The list of ``upstream``. Only those who have none wait for it, and of them only one asks.

        :raises GatewayError: there is none and it cannot be had.
        """
        shelf = self._shelf(upstream)
        if shelf.models is None:
            with shelf.loading:
                if shelf.models is None and self.now() >= shelf.due:
                    self._load(upstream, shelf)
        models = self.at_hand(upstream)
        assert models is not None
        return models

    def at_hand(self, upstream: Upstream) -> Sequence[Model] | None:
        """The list of ``upstream``; None before the first try. What is due is asked for in the background.

        :raises GatewayError: there is none, because the last try has failed.
        """
        shelf = self._shelf(upstream)
        if shelf.models is None and not shelf.failure:
            return None
        if self.now() >= shelf.due and shelf.loading.acquire(blocking=False):
            self._renew(upstream, shelf)
        if shelf.models is None:
            raise GatewayError(502, shelf.failure, code="models_unavailable")
        return shelf.models

    def ask(self, upstream: Upstream) -> Sequence[Model]:
        """The list as ``upstream`` gives it now.

        :raises GatewayError: it gives none.
        """
        shelf, models = self._shelf(upstream), self.fetch(upstream)
        self._keep(upstream, shelf, models)
        return models

    def _shelf(self, upstream: Upstream) -> _Shelf:
        return self._shelves.get(upstream.id) or self._shelves.setdefault(upstream.id, _Shelf())

    def _renew(self, upstream: Upstream, shelf: _Shelf) -> None:
        """``shelf.loading`` is held, and released at the end."""

        def work() -> None:
            try:
                self._load(upstream, shelf)
            finally:
                shelf.loading.release()

        try:
            self.background(work)
        except RuntimeError:  # no thread can be started just now
            shelf.loading.release()

    def _load(self, upstream: Upstream, shelf: _Shelf) -> None:
        try:
            self._keep(upstream, shelf, self.fetch(upstream))
        except GatewayError as error:
            if error.message != shelf.failure:
                log.warning("The models of upstream %s cannot be had: %s", upstream.name, error.message)
            shelf.failure = error.message
            shelf.due = self.now() + RETRY_AFTER

    def _keep(self, upstream: Upstream, shelf: _Shelf, models: Sequence[Model]) -> None:
        if shelf.failure:
            log.info("The models of upstream %s can be had again", upstream.name)
        shelf.models, shelf.failure = models, ""
        shelf.due = self.now() + LIFETIME


def parse(content: bytes) -> list[Model]:
    """The models in ``{"data": [{"id": ...}, ...]}``; an entry without a name is left out.

    :raises GatewayError: 502, this is no model list.
    """
    try:
        entries = jsontext.loads(content)["data"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise NoModelList("The upstream", 200)
    return [
        Model(entry["id"], _text(entry.get("owned_by")), _time(entry.get("created")))
        for entry in entries
        if isinstance(entry, dict) and _text(entry.get("id"))
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0
