"""The account of an upstream, and its state."""

import time
from dataclasses import dataclass, field

from floway_codex.tables import Credentials, Health, Tokens
from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.storage.configuration import configuration_of
from floway_core.storage.db import lock_row, select, transaction

ACTIVE = "active"
SESSION_TERMINATED = "session_terminated"
"""The backend has ended the sign-in."""
REFRESH_FAILED = "refresh_failed"
"""The token endpoint has refused the refresh token permanently."""
SIGNED_OUT = "signed_out"
"""The operator has signed it out."""

SIGN_IN_HINT = (
    "Sign in again: `floway codex login`, or `floway codex import FILE` with a new auth.json of the codex CLI."
)

FIND_ACCOUNT = """
SELECT a.account_id, a.user_id, a.email, a.plan, a.installation_id, h.state, h.message, h.since,
    t.access_token, t.expires_at
FROM codex_accounts a JOIN codex_health h ON h.upstream_id = a.upstream_id
    LEFT JOIN codex_tokens t ON t.upstream_id = a.upstream_id
WHERE a.upstream_id = ?
"""


@dataclass(frozen=True)
class Account:
    """The account of an upstream, with its access token in encrypted form."""

    upstream_id: str
    account_id: str
    user_id: str
    email: str
    plan: str
    installation_id: str
    state: str
    message: str
    since: int
    encrypted_token: str | None = field(default=None, repr=False, compare=False)
    """The access token in the database when the account was read; None if there was none."""
    token_expires_at: int | None = field(default=None, compare=False)


def unavailable_reason(state: str, message: str) -> str:
    """Why an account in a terminal state cannot serve."""
    shown = f" ({message.rstrip('.')})" if message else ""
    return f"The Codex account is {state}{shown}."


def unavailable_error(state: str, message: str) -> GatewayError:
    """The 503 for an account in a terminal state. It names the state and the command that ends it."""
    reason = unavailable_reason(state, message)
    return GatewayError(503, f"{reason} {SIGN_IN_HINT}", type="codex_upstream_unavailable", code=state)


def find_account(services: Services, upstream_id: str) -> Account:
    """The account of an upstream, in any state.

    :raises GatewayError: 503, the upstream has no account.
    """
    rows = select(services.database, FIND_ACCOUNT, upstream_id)
    if not rows:
        raise GatewayError(
            503,
            f"This Codex upstream has no account. {SIGN_IN_HINT}",
            type="codex_upstream_unavailable",
            code="no_account",
        )
    return Account(upstream_id, *rows[0])


def require_active(services: Services, upstream_id: str) -> Account:
    """The account of an upstream, which must be active.

    :raises GatewayError: 503, there is no account, or it is in a terminal state.
    """
    return _check_active(find_account(services, upstream_id))


def require_active_for_request(services: Services, upstream_id: str) -> Account:
    """As ``require_active``, with the account as it was when the latest request was authenticated, or newer."""
    cache = configuration_of(services.database)
    return _check_active(cache.get((Account, upstream_id), lambda: find_account(services, upstream_id)))


def _check_active(account: Account) -> Account:
    if account.state != ACTIVE:
        raise unavailable_error(account.state, account.message)
    return account


def terminate(services: Services, upstream_id: str, state: str, message: str, version: int) -> bool:
    """Put the account in a terminal state, and delete its access token. Only a new sign-in makes it active again.

    :param version: the version of the credentials that were refused.
    :returns: False if the credentials have been replaced since; then nothing is changed.
    """
    database = services.database
    unchanged = (Credentials.upstream_id == upstream_id) & (Credentials.version == version)
    with transaction(database):
        lock_row(database, "upstreams", upstream_id)
        # This changes nothing, but checks the version and locks the row against a concurrent import.
        if not Credentials.update(version=version).where(unchanged).execute(database):
            return False
        _set_terminal_state(services, upstream_id, state, message)
    return True


def sign_out(services: Services, upstream_id: str) -> None:
    """Delete the tokens. The account keeps its upstream and its installation id for the next sign-in."""
    database = services.database
    cleared = {"refresh_token": "", "id_token": "", "version": Credentials.version + 1}
    with transaction(database):
        lock_row(database, "upstreams", upstream_id)
        Credentials.update(cleared).where(Credentials.upstream_id == upstream_id).execute(database)
        _set_terminal_state(services, upstream_id, SIGNED_OUT, "")


def _set_terminal_state(services: Services, upstream_id: str, state: str, message: str) -> None:
    database = services.database
    health = {"state": state, "message": message, "since": int(time.time())}
    Health.update(health).where(Health.upstream_id == upstream_id).execute(database)
    delete = Tokens.delete()  # type: ignore[misc]  # the stubs take it for an instance variable
    delete.where(Tokens.upstream_id == upstream_id).execute(database)
