"""Model lists: asking the backend (``GET /codex/models``), and keeping the answer in the database."""

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
from floway_core.storage.db import DATABASE_ERRORS, select
from floway_core.upstream import HttpClient

log = logging.getLogger("floway.codex")


@dataclass(frozen=True)
class ModelList:
    """What the backend gave at one time."""

    models: tuple[Model, ...]
    etag: str
    """Empty when the backend gave none."""
    fetched_at: float
    """Unix time in seconds."""


@dataclass(frozen=True)
class ModelLists:
    """The lists of all upstreams, where they come from and where they are kept."""

    services: Services
    tokens: TokenSource
    http: HttpClient
    base_url: str
    profile: Profile
    now: Callable[[], float] = time.time

    def fetch(self, upstream: Upstream) -> ModelList:
        """Ask the backend, and keep its answer. A 401 is dealt with as for a response.

        :raises GatewayError: there is no answer, or no list in it.
        """
        account = accounts.require_active(self.services, upstream.id)
        token = self.tokens.of_account(account)
        response = self._ask(token, account.account_id)
        if response.status_code == 401:
            recovery.end_session(self.services, upstream, token, response.content)
            token = self.tokens.replacement(upstream.id, token)
            response = self._ask(token, account.account_id)
        if response.status_code == 401:
            recovery.end_session(self.services, upstream, token, response.content)
        if response.status_code != 200:
            raise NoModelList("The Codex backend", response.status_code, response.headers.get("content-type"))
        fetched = ModelList(parse(response.content), response.headers.get("etag", "")[:200], self.now())
        self._store(upstream, fetched, response.content)
        return fetched

    def _ask(self, token: str, account_id: str) -> requests.Response:
        known = {**self.profile.known, "access_token": token, "account_id": account_id}
        url = f"{self.base_url}/codex/models?{urlencode({'client_version': self.profile.version})}"
        return self.http.fetch("GET", url, self.profile.models_headers.render(known))

    def _store(self, upstream: Upstream, fetched: ModelList, body: bytes) -> None:
        """When it cannot be stored, that is logged: the list is good all the same."""
        database = self.services.database
        row = {
            "client_version": self.profile.version,
            "fetched_at": int(fetched.fetched_at),
            "etag": fetched.etag,
            "body": body.decode(),
        }
        query = tables.Catalogue.insert(upstream_id=upstream.id, **row).on_conflict(
            conflict_target=[tables.Catalogue.upstream_id], update=row
        )
        try:
            with database.connection_context():
                query.execute(database)
        except DATABASE_ERRORS as error:
            log.warning("The models of upstream %s could not be stored: %s", upstream.name, error)

    def stored(self, upstream: Upstream) -> ModelList | None:
        """The list that any process fetched last for this version of the CLI, or None."""
        query = "SELECT body, etag, fetched_at FROM codex_catalogue WHERE upstream_id = ? AND client_version = ?"
        rows = select(self.services.database, query, upstream.id, self.profile.version)
        return ModelList(parse(rows[0][0].encode()), *rows[0][1:]) if rows else None


@functools.cache
def prices() -> Mapping[str, Price]:
    """What the models would cost with an API key, by name."""
    return parse_prices(files("floway_codex").joinpath("prices.toml").read_text(encoding="utf-8"))


def parse(body: bytes) -> tuple[Model, ...]:
    """The models in ``{"models": [{"slug": ...}, ...]}``, hidden ones too: they can be asked for by name.

    Unknown fields are kept; an entry without a name is skipped with a warning.

    :raises GatewayError: 502, this is no model list.
    """
    try:
        entries = jsontext.loads(body)["models"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise NoModelList("The Codex backend", 200)
    models = []
    for place, entry in enumerate(entries):
        slug = entry.get("slug") if isinstance(entry, dict) else None
        if not isinstance(slug, str) or not slug:
            log.warning("Entry %d of the Codex model list has no name and is skipped", place)
            continue
        models.append(Model(id=slug, owned_by="openai", details=entry, price=prices().get(slug)))
    return tuple(models)
