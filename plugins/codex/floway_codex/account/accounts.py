"""The account behind an upstream, and whether it can be used."""

import time
from dataclasses import dataclass, field

from floway_codex.tables import Credentials, Health, Tokens
from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.storage.db import lock_row, select, transaction

ACTIVE = "active"
SESSION_TERMINATED = "session_terminated"
"""The backend has invalidated the sign-in."""
REFRESH_FAILED = "refresh_failed"
"""The token endpoint refuses the refresh token for good."""
SIGNED_OUT = "signed_out"
"""The operator has signed it out."""

MENDING = "Sign in again: `floway codex login`, or `floway codex import FILE` with a new auth.json of the codex CLI."

FIND = """
SELECT a.account_id, a.user_id, a.email, a.plan, a.installation_id, h.state, h.message, h.since,
    t.access_token, t.expires_at
FROM codex_accounts a JOIN codex_health h ON h.upstream_id = a.upstream_id
    LEFT JOIN codex_tokens t ON t.upstream_id = a.upstream_id
WHERE a.upstream_id = ?
"""


@dataclass(frozen=True)
class Account:
    """The one account of an upstream. Of its credentials only the access token, which is sealed."""

    upstream_id: str
    account_id: str
    user_id: str
    email: str
    plan: str
    installation_id: str
    state: str
    message: str
    since: int
    sealed_token: str | None = field(default=None, repr=False, compare=False)
    """As it was stored when the account was read; None when there was none."""
    token_expires_at: int | None = field(default=None, compare=False)


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
    rows = select(services.database, FIND, upstream_id)
    if not rows:
        raise GatewayError(
            503, f"This Codex upstream has no account. {MENDING}", type="codex_upstream_unavailable", code="no_account"
        )
    return Account(upstream_id, *rows[0])


def require_active(services: Services, upstream_id: str) -> Account:
    """The account of an upstream.

    :raises GatewayError: 503, there is none or it cannot be used.
    """
    account = find(services, upstream_id)
    if account.state != ACTIVE:
        raise unavailable(account.state, account.message)
    return account


def terminate(services: Services, upstream_id: str, state: str, message: str, version: int) -> bool:
    """Put the account in a terminal state and drop its access token. Only a new sign-in leads back.

    :param version: of the credentials that were refused.
    :returns: False when they have been replaced since, so that nothing was done.
    """
    database = services.database
    unchanged = (Credentials.upstream_id == upstream_id) & (Credentials.version == version)
    with transaction(database):
        lock_row(database, "upstreams", upstream_id)
        # An update that changes nothing, but keeps an import from slipping in between.
        if not Credentials.update(version=version).where(unchanged).execute(database):
            return False
        _end(services, upstream_id, state, message)
    return True


def sign_out(services: Services, upstream_id: str) -> None:
    """Forget the tokens. The account keeps its upstream and its installation id for when it is signed in again."""
    database = services.database
    forgotten = {"refresh_token": "", "id_token": "", "version": Credentials.version + 1}
    with transaction(database):
        lock_row(database, "upstreams", upstream_id)
        Credentials.update(forgotten).where(Credentials.upstream_id == upstream_id).execute(database)
        _end(services, upstream_id, SIGNED_OUT, "")


def _end(services: Services, upstream_id: str, state: str, message: str) -> None:
    database = services.database
    health = {"state": state, "message": message, "since": int(time.time())}
    Health.update(health).where(Health.upstream_id == upstream_id).execute(database)
    Tokens.delete().where(Tokens.upstream_id == upstream_id).execute(database)
