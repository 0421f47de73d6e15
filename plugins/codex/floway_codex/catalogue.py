"""Model lists from the backend (``GET /codex/models``), and their copies in the database."""

import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlencode

import requests

from floway_codex import tables
from floway_codex.account import accounts, recovery
from floway_codex.account.tokens import TokenSource
from floway_codex.wire.profile import Profile
from floway_core.contexts import Services, Upstream
from floway_core.errors import NoModelList
from floway_core.prices import Price, parse_prices
from floway_core.protocol import jsontext
from floway_core.provider import Model
from floway_core.storage.db import DATABASE_ERRORS, select, transaction
from floway_core.upstream import HttpClient
from floway_core.upstream.model_list_cache import ModelList, ModelListCache

log = logging.getLogger("floway.codex")


MAX_AGE_SECONDS = 24 * 3600
"""Age from which a list is not used any more."""
RETRY_WAIT_SECONDS = 5
"""After a failure, the time until the next request for a list."""


@dataclass(frozen=True)
class BackendModelLists:
    """Fetches the lists of all upstreams, and stores them."""

    services: Services
    tokens: TokenSource
    http: HttpClient
    base_url: str
    profile_for: Callable[[str], Profile]
    """The profile for requests about an upstream's account, by the id of the upstream."""
    now: Callable[[], float] = time.time

    def cache(self) -> ModelListCache:
        """Return a cache of these lists."""
        return ModelListCache(self.fetch, self.load_stored, MAX_AGE_SECONDS, RETRY_WAIT_SECONDS)

    def fetch(self, upstream: Upstream) -> ModelList:
        """Fetch a list from the backend, and store it. A 401 is handled as for a response: the token is renewed once.

        :raises GatewayError: the backend cannot be reached, or sends no list.
        """
        account = accounts.require_active(self.services, upstream.id)
        token = self.tokens.token_for_account(account)
        profile = self.profile_for(upstream.id)
        response = self._request(profile, token, account.account_id)
        if response.status_code == 401:
            recovery.terminate_if_session_ended(self.services, upstream, token, response.content)
            token = self.tokens.replace_refused(upstream.id, token)
            response = self._request(profile, token, account.account_id)
        if response.status_code == 401:
            recovery.terminate_if_session_ended(self.services, upstream, token, response.content)
        if response.status_code != 200:
            raise NoModelList("The Codex backend", response.status_code, response.headers.get("content-type"))
        fetched = ModelList(parse_models(response.content), self.now(), response.headers.get("etag", "")[:200])
        self._store(upstream, profile, fetched, response.content)
        return fetched

    def _request(self, profile: Profile, token: str, account_id: str) -> requests.Response:
        values = {**profile.static_values, "access_token": token, "account_id": account_id}
        url = f"{self.base_url}/codex/models?{urlencode({'client_version': profile.version})}"
        return self.http.fetch("GET", url, profile.models_headers.render(values))

    def _store(self, upstream: Upstream, profile: Profile, fetched: ModelList, body: bytes) -> None:
        """Store a list. A failure is only logged: the list can be served all the same."""
        database = self.services.database
        row = {
            "client_version": profile.version,
            "fetched_at": int(fetched.fetched_at),
            "etag": fetched.etag,
            "body": body.decode(),
        }
        query = tables.Catalogue.insert(upstream_id=upstream.id, **row).on_conflict(
            conflict_target=[tables.Catalogue.upstream_id], update=row
        )
        try:
            with transaction(database):
                query.execute(database)
        except DATABASE_ERRORS as error:
            log.warning("The models of upstream %s could not be stored: %s", upstream.name, error)

    def load_stored(self, upstream: Upstream) -> ModelList | None:
        """The list that any process fetched last for this version of the CLI, or None."""
        query = "SELECT body, fetched_at, etag FROM codex_catalogue WHERE upstream_id = ? AND client_version = ?"
        rows = select(self.services.database, query, upstream.id, self.profile_for(upstream.id).version)
        return ModelList(parse_models(rows[0][0].encode()), *rows[0][1:]) if rows else None


@functools.cache
def load_prices() -> Mapping[str, Price]:
    """The prices of the models with an API key, by name."""
    return parse_prices(files("floway_codex").joinpath("prices.toml").read_text(encoding="utf-8"))


def parse_models(body: bytes) -> tuple[Model, ...]:
    """Parse ``{"models": [{"slug": ...}, ...]}``. Hidden models are included: clients can request them by name.

    Unknown fields of an entry are preserved. An entry without a name is skipped with a warning.

    :raises GatewayError: 502, ``body`` is not a model list.
    """
    try:
        entries = jsontext.loads(body)["models"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise NoModelList("The Codex backend", 200)
    models = []
    for index, entry in enumerate(entries):
        slug = entry.get("slug") if isinstance(entry, dict) else None
        if not isinstance(slug, str) or not slug:
            log.warning("Entry %d of the Codex model list has no name and is skipped", index)
            continue
        models.append(Model(id=slug, owned_by="openai", details=entry, price=load_prices().get(slug)))
    return tuple(models)
