"""The account behind an upstream, and whether it can be used."""

import time
from dataclasses import dataclass

import peewee

from floway_codex.tables import Accounts, Credentials, Health, Tokens
from floway_core.contexts import Services
from floway_core.errors import GatewayError

ACTIVE = "active"
SESSION_TERMINATED = "session_terminated"
"""The backend has invalidated the sign-in."""
REFRESH_FAILED = "refresh_failed"
"""The token endpoint refuses the refresh token for good."""

MENDING = "Sign in with the codex CLI again and run `floway codex import FILE` with its auth.json."


@dataclass(frozen=True)
class Account:
    """The one account of an upstream, without its credentials."""

    upstream_id: str
    account_id: str
    user_id: str
    email: str
    plan: str
    installation_id: str
    state: str
    message: str
    since: int


def unavailable(state: str, message: str) -> GatewayError:
    """The 503 for an account in a terminal state: names the state and what mends it."""
    reason = f" ({message.rstrip('.')})" if message else ""
    return GatewayError(
        503, f"The Codex account is {state}{reason}. {MENDING}", type="codex_upstream_unavailable", code=state
    )


def find(services: Services, upstream_id: str) -> Account:
    """The account of an upstream, whatever its state.

    :raises GatewayError: 503, the upstream has none.
    """
    query = (
        Accounts.select(Accounts, Health.state, Health.message, Health.since)
        .join(Health, peewee.JOIN.LEFT_OUTER, on=(Health.upstream_id == Accounts.upstream_id))
        .where(Accounts.upstream_id == upstream_id)
        .dicts()
    )
    with services.database.connection_context():
        rows = list(query.execute(services.database))
    if not rows:
        raise GatewayError(
            503, f"This Codex upstream has no account. {MENDING}", type="codex_upstream_unavailable", code="no_account"
        )
    row = rows[0]
    return Account(
        upstream_id=upstream_id,
        account_id=row["account_id"],
        user_id=row["user_id"],
        email=row["email"],
        plan=row["plan"],
        installation_id=row["installation_id"],
        state=row["state"] or ACTIVE,
        message=row["message"] or "",
        since=row["since"] or 0,
    )


def require_active(services: Services, upstream_id: str) -> Account:
    """The account of an upstream.

    :raises GatewayError: 503, there is none or it cannot be used.
    """
    account = find(services, upstream_id)
    if account.state != ACTIVE:
        raise unavailable(account.state, account.message)
    return account


def terminate(services: Services, upstream_id: str, state: str, message: str, version: int) -> bool:
    """Put the account in a terminal state and drop its access token. Only an import leads back.

    :param version: of the credentials that were refused.
    :returns: False when they have been replaced since, so that nothing was done.
    """
    database = services.database
    unchanged = (Credentials.upstream_id == upstream_id) & (Credentials.version == version)
    health = {"state": state, "message": message, "since": int(time.time())}
    with database.connection_context(), database.atomic():
        # An update that changes nothing, but keeps an import from slipping in between.
        if not Credentials.update(version=version).where(unchanged).execute(database):
            return False
        Health.insert(upstream_id=upstream_id, **health).on_conflict(
            conflict_target=[Health.upstream_id], update=health
        ).execute(database)
        Tokens.delete().where(Tokens.upstream_id == upstream_id).execute(database)
    return True
