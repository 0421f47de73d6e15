"""The versions of the CLI as which an account's turns are sent, so that the gateway's own requests say the same."""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from floway_codex.tables import Clients
from floway_codex.wire.profile import Profile, load_profiles, profile_for_version, version_key
from floway_codex.wire.templates import Template
from floway_core.contexts import Services
from floway_core.storage.db import DATABASE_ERRORS, lock_row, select, transaction

REWRITE_AFTER_SECONDS = 3600
"""Age at which an unchanged client is stored again."""
CURRENT_SECONDS = 7 * 86_400
"""Seconds for which a client counts after its last turn."""
MAX_CLIENTS = 16
"""Clients of one account that are stored; the newest versions stay."""
MAX_VERSION_LENGTH = 40

FIND = "SELECT clients_json FROM codex_clients WHERE upstream_id = ?"

log = logging.getLogger("floway.codex")


@dataclass(frozen=True)
class SeenClient:
    """A client as which turns have been sent."""

    version: str
    is_cli: bool
    originator: str
    user_agent: str
    seen_at: int
    """Unix time in seconds."""


@dataclass(frozen=True)
class ClientLog:
    """Remembers the clients of all accounts. One per process."""

    services: Services
    default: Profile
    """The profile for turns of clients that are no CLI."""
    now: Callable[[], float] = time.time
    _written: dict[tuple[str, str, bool], tuple[str, float]] = field(default_factory=dict)

    def note(self, upstream_id: str, version: str, originator: str, user_agent: str, *, is_cli: bool) -> None:
        """Note a turn. A failure of the database is only logged."""
        now, key = self.now(), (upstream_id, version, is_cli)
        written_agent, written_at = self._written.get(key, ("", 0.0))
        if (written_agent == user_agent and now < written_at + REWRITE_AFTER_SECONDS) or len(
            version
        ) > MAX_VERSION_LENGTH:
            return
        if len(self._written) > 1000:  # clients make up versions: forgetting costs a few writes
            self._written.clear()
        self._written[key] = (user_agent, now)
        try:
            self._store(upstream_id, SeenClient(version, is_cli, originator, user_agent, int(now)))
        except DATABASE_ERRORS as error:
            log.warning("The client of upstream %s could not be stored: %s", upstream_id, error)

    def _store(self, upstream_id: str, seen: SeenClient) -> None:
        """Add a client to those that are stored, in place of an earlier one of this version.

        Two processes that do so at once may lose one of two clients, for an hour at most.
        """
        database = self.services.database
        with transaction(database):
            lock_row(database, "upstreams", upstream_id)
            others = [
                client
                for client in read_clients(self.services, upstream_id, seen.seen_at - CURRENT_SECONDS)
                if (client.version, client.is_cli) != (seen.version, seen.is_cli)
            ]
            newest_json = json.dumps([vars(client) for client in _newest_first([seen, *others])[:MAX_CLIENTS]])
            Clients.update(clients_json=newest_json).where(Clients.upstream_id == upstream_id).execute(database)

    def profile_for(self, upstream_id: str) -> Profile:
        """The profile for the gateway's own requests: as the newest client of the last week, else the default."""
        try:
            seen = read_clients(self.services, upstream_id, int(self.now()) - CURRENT_SECONDS)
        except DATABASE_ERRORS as error:
            log.warning("The clients of upstream %s could not be read: %s", upstream_id, error)
            seen = []
        newest = max(
            seen, key=lambda client: (version_key(client.version), client.is_cli, client.seen_at), default=None
        )
        if newest is None or not newest.is_cli:
            return self.default
        folder = self.services.settings.plugin["codex_profiles"]
        values = {**self.default.values, "originator": newest.originator}
        return dataclasses.replace(
            profile_for_version(newest.version, folder),
            version=newest.version,
            values=values,
            user_agent=Template(newest.user_agent),
        )


def read_clients(services: Services, upstream_id: str, since: int) -> list[SeenClient]:
    """The clients of an account with turns after ``since`` (Unix seconds), the newest version first."""
    rows = select(services.database, FIND, upstream_id)
    clients = [SeenClient(**fields) for fields in json.loads(rows[0][0])] if rows else []
    return _newest_first([client for client in clients if client.seen_at > since])


def _newest_first(clients: Sequence[SeenClient]) -> list[SeenClient]:
    return sorted(clients, key=lambda client: (version_key(client.version), client.seen_at), reverse=True)


def lacks_profile(version: str, folder: str) -> bool:
    """Whether a version is newer than any profile."""
    return version_key(version) > version_key(list(load_profiles(folder))[-1])
