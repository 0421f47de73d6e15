"""The model list of an upstream (``GET /codex/models``), kept in memory for a while."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from floway_codex import accounts, oauth
from floway_codex.profile import Profile, render
from floway_codex.tokens import TokenSource
from floway_core.contexts import Services, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import Model
from floway_core.upstream import HttpClient

MAX_AGE = 600
"""Seconds after which a list is loaded again."""
RETRY_AFTER = 15
"""Seconds after a failure until the next try; requests meanwhile get the old list or the same failure."""

log = logging.getLogger("floway.codex")


@dataclass
class _Shelf:
    """The list of one upstream."""

    loading: threading.Lock = field(default_factory=threading.Lock)
    models: Sequence[Model] | None = None
    error: GatewayError | None = None
    due: float = 0.0


@dataclass(frozen=True)
class Catalogue:
    """The model lists of all upstreams. One per process; shared by all threads."""

    load: Callable[[Upstream], Sequence[Model]]
    now: Callable[[], float] = time.monotonic
    _shelves: dict[str, _Shelf] = field(default_factory=dict)

    def models(self, upstream: Upstream) -> Sequence[Model]:
        """The list of ``upstream``, at most ten minutes old unless it cannot be renewed.

        One thread loads; the others get the old list, or wait when there is none.

        :raises GatewayError: there is none and it cannot be had.
        """
        shelf = self._shelves.setdefault(upstream.id, _Shelf())
        if self.now() >= shelf.due and shelf.loading.acquire(blocking=shelf.models is None):
            try:
                if self.now() >= shelf.due:  # else another thread has just been here
                    self._renew(upstream, shelf)
            finally:
                shelf.loading.release()
        if shelf.models is not None:
            return shelf.models
        assert shelf.error is not None
        raise shelf.error.with_traceback(None)

    def details(self, upstream: Upstream, slug: str) -> Mapping[str, Any]:
        """The catalogue entry of a model, as far as the list has been loaded before; else empty."""
        shelf = self._shelves.get(upstream.id)
        return next((model.details for model in shelf and shelf.models or () if model.id == slug), {})

    def _renew(self, upstream: Upstream, shelf: _Shelf) -> None:
        try:
            shelf.models, shelf.error = self.load(upstream), None
            shelf.due = self.now() + MAX_AGE
        except GatewayError as error:
            log.warning("The models of upstream %s could not be loaded: %s", upstream.name, error.message)
            shelf.error = error
            shelf.due = self.now() + RETRY_AFTER


def fetch_models(
    services: Services, tokens: TokenSource, http: HttpClient, base_url: str, profile: Profile, upstream: Upstream
) -> list[Model]:
    """Ask the backend for its models; a refused token is renewed once.

    :raises GatewayError: the list cannot be had.
    """
    account = accounts.require_active(services, upstream.id)
    url = f"{base_url}/codex/models?{urlencode({'client_version': profile.version})}"

    def ask(token: str):
        known = {**profile.known(), "access_token": token, "account_id": account.account_id}
        return http.fetch("GET", url, render(profile.models_headers, known))

    token = tokens.access_token(upstream.id)
    response = ask(token)
    if response.status_code == 401:
        tokens.discard(upstream.id, token)
        response = ask(tokens.access_token(upstream.id, oauth.UNAUTHORIZED))
    if response.status_code != 200:
        raise GatewayError(
            502, f"The Codex backend answered {response.status_code} when asked for its models.", code="upstream_error"
        )
    return parse_models(response.content)


def parse_models(body: bytes) -> list[Model]:
    """The models in ``{"models": [{"slug": ...}, ...]}``, hidden ones too: they can be asked for by name.

    Unknown fields are kept; an entry without a name is skipped with a warning.

    :raises GatewayError: 502, this is no model list.
    """
    try:
        entries = jsontext.loads(body)["models"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise GatewayError(502, "The Codex backend sent no model list.", code="upstream_error")
    models = []
    for place, entry in enumerate(entries):
        slug = entry.get("slug") if isinstance(entry, dict) else None
        if not isinstance(slug, str) or not slug:
            log.warning("Entry %d of the Codex model list has no name and is skipped", place)
            continue
        models.append(Model(id=slug, owned_by="openai", details=entry))
    return models
