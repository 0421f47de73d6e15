"""Why an account cannot serve now, as far as is known without asking the backend."""

import time

from floway_codex.account import accounts, credentials, quota, status
from floway_core.contexts import Services


def unavailable_reason(services: Services, upstream_id: str) -> str | None:
    """A sentence without secrets and without a word of the backend's, which may name the account; None if all is well.

    :raises GatewayError: there is no account, or its tokens were stored with another secret key.
    """
    account = accounts.find(services, upstream_id)
    if account.state != accounts.ACTIVE:
        return accounts.unavailable(account.state, "").message
    if credentials.read_refresh_token(services, upstream_id) is None:
        return accounts.unavailable(accounts.SIGNED_OUT, "").message
    now = time.time()
    until = _refused_until(services, upstream_id)
    return f"The Codex account's quota is used up; it resets {status.moment(until, now)}." if until > now else None


def _refused_until(services: Services, upstream_id: str) -> float:
    """Until when the limit that all models share lasts, Unix seconds; those of single models leave others to serve."""
    limits = quota.read(services, upstream_id)
    return max((limit.get("refused_until", 0) for limit in limits if limit["limit"] == quota.DEFAULT_LIMIT), default=0)
