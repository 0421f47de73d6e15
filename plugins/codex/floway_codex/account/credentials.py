"""The stored tokens: reading, replacing and clearing them, and the lease for whoever renews them."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import peewee

from floway_codex.account.accounts import ACTIVE, REFRESH_FAILED
from floway_codex.tables import Credentials, Health, Tokens
from floway_core.contexts import Services
from floway_core.storage.db import lock_row, select


@dataclass(frozen=True)
class RefreshToken:
    """The refresh token, and which version of the credentials it is."""

    value: str
    version: int


@dataclass(frozen=True)
class AccessToken:
    """The access token; ``sealed`` is the very text in the database."""

    value: str
    expires_at: int
    sealed: str


def read_refresh_token(services: Services, upstream_id: str) -> RefreshToken | None:
    """The refresh token of an upstream, or None when it has no account or has been signed out.

    :raises GatewayError: 503, it was stored with another secret key.
    """
    query = Credentials.select(Credentials.refresh_token, Credentials.version)
    with services.database.connection_context():
        rows = list(query.where(Credentials.upstream_id == upstream_id).tuples().execute(services.database))
    return RefreshToken(services.secrets.open(rows[0][0]), rows[0][1]) if rows and rows[0][0] else None


def read_access_token(services: Services, upstream_id: str) -> AccessToken | None:
    """The access token of an upstream, fresh or not, or None.

    :raises GatewayError: 503, it was stored with another secret key.
    """
    query = "SELECT access_token, expires_at FROM codex_tokens WHERE upstream_id = ?"
    rows = select(services.database, query, upstream_id)
    return AccessToken(services.secrets.open(rows[0][0]), rows[0][1], rows[0][0]) if rows else None


def clear_access_token(services: Services, upstream_id: str, value: str) -> bool:
    """Drop the access token if it is still ``value``.

    :returns: False when it is another one by now, or none.
    """
    stored = read_access_token(services, upstream_id)
    if stored is None or stored.value != value:
        return False
    unchanged = (Tokens.upstream_id == upstream_id) & (Tokens.access_token == stored.sealed)
    with services.database.connection_context():
        return bool(Tokens.delete().where(unchanged).execute(services.database))


def replace(
    services: Services, upstream_id: str, version: int, refresh: str, id_token: str | None, access: str, expires_at: int
) -> bool:
    """Store renewed tokens, all of them or none, on disk before this returns.

    An account that another process has given up meanwhile, because it was late with the same refresh token, is active
    again: these tokens are proof that its sign-in holds.

    :param version: of the credentials that were spent for them.
    :param id_token: None keeps the stored one.
    :param expires_at: of the access token, Unix seconds.
    :returns: False when the credentials are other ones by now, or none; nothing was stored.
    """
    database, seal = services.database, services.secrets.encrypt
    changed = {"refresh_token": seal(refresh), "version": version + 1}
    if id_token:
        changed["id_token"] = seal(id_token)
    token = {"access_token": seal(access), "expires_at": expires_at}
    unchanged = (Credentials.upstream_id == upstream_id) & (Credentials.version == version)
    with database.connection_context(), _synced(database), database.atomic():
        lock_row(database, "upstreams", upstream_id)
        if not Credentials.update(changed).where(unchanged).execute(database):
            return False
        Tokens.insert(upstream_id=upstream_id, **token).on_conflict(
            conflict_target=[Tokens.upstream_id], update=token
        ).execute(database)
        given_up = (Health.upstream_id == upstream_id) & (Health.state == REFRESH_FAILED)
        Health.update(state=ACTIVE, message="", since=int(time.time())).where(given_up).execute(database)
    return True


@contextlib.contextmanager
def _synced(database: peewee.Database) -> Iterator[None]:
    """Commits in this block survive a power cut: the spent refresh token is void, so the new one must not get lost."""
    if not isinstance(database, peewee.SqliteDatabase):
        yield
        return
    usual = database.execute_sql("PRAGMA synchronous").fetchone()[0]
    database.execute_sql("PRAGMA synchronous=FULL")
    try:
        yield
    finally:
        database.execute_sql(f"PRAGMA synchronous={int(usual)}")


# ------------------------------------------------------------------------------------------------------------- lease
def take_lease(services: Services, upstream_id: str, now: int, seconds: int) -> str | None:
    """The sole right, among all processes, to spend the refresh token; None when somebody else has it.

    It ends by itself after ``seconds`` by the clocks of the hosts. Should two of them have it for once, the version of
    the credentials keeps them apart.
    """
    owner = uuid.uuid4().hex
    free = (Credentials.lease_owner.is_null()) | (Credentials.lease_until <= now)
    query = Credentials.update(lease_owner=owner, lease_until=now + seconds)
    with services.database.connection_context():
        taken = query.where((Credentials.upstream_id == upstream_id) & free).execute(services.database)
    return owner if taken else None


def drop_lease(services: Services, upstream_id: str, owner: str) -> None:
    """Give a lease back, if it is still this one."""
    query = Credentials.update(lease_owner=None, lease_until=0)
    mine = (Credentials.upstream_id == upstream_id) & (Credentials.lease_owner == owner)
    with services.database.connection_context():
        query.where(mine).execute(services.database)
