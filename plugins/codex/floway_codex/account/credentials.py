"""The stored tokens, and the lease that serialises their renewal over all processes."""

import time
import uuid
from dataclasses import dataclass

from floway_codex.account.accounts import ACTIVE, REFRESH_FAILED
from floway_codex.tables import Credentials, Health, Tokens
from floway_core.contexts import Services
from floway_core.storage.db import lock_row, select, transaction


@dataclass(frozen=True)
class RefreshToken:
    """A refresh token, and the version of the credentials that it belongs to."""

    value: str
    version: int


@dataclass(frozen=True)
class AccessToken:
    """An access token; ``encrypted`` is its form in the database."""

    value: str
    expires_at: int
    encrypted: str


def read_refresh_token(services: Services, upstream_id: str) -> RefreshToken | None:
    """The refresh token of an upstream; None if it has no account or is signed out.

    :raises GatewayError: 503, the token was encrypted with another secret key.
    """
    query = Credentials.select(Credentials.refresh_token, Credentials.version)
    with services.database.connection_context():
        rows = list(query.where(Credentials.upstream_id == upstream_id).tuples().execute(services.database))
    return RefreshToken(services.secrets.decrypt(rows[0][0]), rows[0][1]) if rows and rows[0][0] else None


def read_access_token(services: Services, upstream_id: str) -> AccessToken | None:
    """The access token of an upstream, even if it has expired; None if there is none.

    :raises GatewayError: 503, the token was encrypted with another secret key.
    """
    query = "SELECT access_token, expires_at FROM codex_tokens WHERE upstream_id = ?"
    rows = select(services.database, query, upstream_id)
    return AccessToken(services.secrets.decrypt(rows[0][0]), rows[0][1], rows[0][0]) if rows else None


def clear_access_token(services: Services, upstream_id: str, value: str) -> bool:
    """Delete the access token if it is still ``value``.

    :returns: False if another token is stored by now, or none.
    """
    stored = read_access_token(services, upstream_id)
    if stored is None or stored.value != value:
        return False
    unchanged = (Tokens.upstream_id == upstream_id) & (Tokens.access_token == stored.encrypted)
    delete = Tokens.delete()  # type: ignore[misc]  # the stubs take it for an instance variable
    with transaction(services.database):
        return bool(delete.where(unchanged).execute(services.database))


def store_renewed_tokens(
    services: Services, upstream_id: str, version: int, refresh: str, id_token: str | None, access: str, expires_at: int
) -> bool:
    """Store renewed tokens atomically. They are on disk before this function returns.

    The account also becomes active again if it was in the state ``refresh_failed``: another process may have used the
    same refresh token a moment later, and the new tokens prove that the sign-in is valid.

    :param version: the version of the credentials whose refresh token was spent.
    :param id_token: None keeps the stored one.
    :param expires_at: when the access token expires, Unix seconds.
    :returns: False if the credentials have been replaced or removed since; then nothing is stored.
    """
    database, encrypt = services.database, services.secrets.encrypt
    changed = {"refresh_token": encrypt(refresh), "version": version + 1}
    if id_token:
        changed["id_token"] = encrypt(id_token)
    token = {"access_token": encrypt(access), "expires_at": expires_at}
    unchanged = (Credentials.upstream_id == upstream_id) & (Credentials.version == version)
    with transaction(database, is_durable=True):  # the old refresh token is void, the new one must not be lost
        lock_row(database, "upstreams", upstream_id)
        if not Credentials.update(changed).where(unchanged).execute(database):
            return False
        Tokens.insert(upstream_id=upstream_id, **token).on_conflict(
            conflict_target=[Tokens.upstream_id], update=token
        ).execute(database)
        refresh_failed = (Health.upstream_id == upstream_id) & (Health.state == REFRESH_FAILED)
        Health.update(state=ACTIVE, message="", since=int(time.time())).where(refresh_failed).execute(database)
    return True


# ------------------------------------------------------------------------------------------------------------- lease
def acquire_lease(services: Services, upstream_id: str, now: int, seconds: int) -> str | None:
    """Acquire the exclusive right to spend the refresh token.

    The lease expires after ``seconds`` by the clocks of the hosts. If two processes hold one nevertheless, the
    version of the credentials prevents one from overwriting the tokens of the other.

    :returns: the owner id to release the lease with; None if another process holds it.
    """
    owner = uuid.uuid4().hex
    free = (Credentials.lease_owner.is_null()) | (Credentials.lease_until <= now)
    query = Credentials.update(lease_owner=owner, lease_until=now + seconds)
    with transaction(services.database):
        acquired = query.where((Credentials.upstream_id == upstream_id) & free).execute(services.database)
    return owner if acquired else None


def is_lease_abandoned(services: Services, upstream_id: str, now: int) -> bool:
    """Whether a process held the lease until it expired: it has probably ended in the middle of a renewal.

    Ask before ``acquire_lease``, which takes the lease over.
    """
    condition = "upstream_id = ? AND lease_owner IS NOT NULL AND lease_until <= ?"
    return bool(select(services.database, f"SELECT 1 FROM codex_credentials WHERE {condition}", upstream_id, now))


def release_lease(services: Services, upstream_id: str, owner: str) -> None:
    """Release a lease, unless another owner has acquired it since."""
    query = Credentials.update(lease_owner=None, lease_until=0)
    mine = (Credentials.upstream_id == upstream_id) & (Credentials.lease_owner == owner)
    with transaction(services.database):
        query.where(mine).execute(services.database)
