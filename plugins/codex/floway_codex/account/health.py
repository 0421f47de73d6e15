"""Why an account cannot serve requests now, from the database alone."""

import time

from floway_codex.account import accounts, credentials, quota, status
from floway_core.contexts import Services


def unavailable_reason(services: Services, upstream_id: str) -> str | None:
    """Why the account cannot serve, in one sentence; None if it can. Without secrets and without texts of the backend,
    which may name the account.

    :raises GatewayError: there is no account, or its tokens were encrypted with another secret key.
    """
    account = accounts.find_account(services, upstream_id)
    if account.state != accounts.ACTIVE:
        return accounts.unavailable_error(account.state, "").message
    if credentials.read_refresh_token(services, upstream_id) is None:
        return accounts.unavailable_error(accounts.SIGNED_OUT, "").message
    now = time.time()
    until = _refused_until(services, upstream_id)
    return f"The Codex account's quota is used up; it resets {status.format_time(until, now)}." if until > now else None


def _refused_until(services: Services, upstream_id: str) -> float:
    """When the limit of all models resets, Unix seconds. Limits of single models do not count: others can serve."""
    limits = quota.read_limits(services, upstream_id)
    return max((limit.get("refused_until", 0) for limit in limits if limit["limit"] == quota.DEFAULT_LIMIT), default=0)
