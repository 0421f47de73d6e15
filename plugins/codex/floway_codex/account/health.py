"""Why an account cannot serve requests now, from the database alone."""

import time

from floway_codex.account import accounts, credentials, quota, status
from floway_core.contexts import Services
from floway_core.provider import Problem


def find_problem(services: Services, upstream_id: str) -> Problem | None:
    """Why the account cannot serve; None if it can. Without texts of the backend, which may name the account.

    :raises GatewayError: there is no account, or its tokens were encrypted with another secret key.
    """
    account = accounts.find_account(services, upstream_id)
    is_active = account.state == accounts.ACTIVE
    if not is_active or credentials.read_refresh_token(services, upstream_id) is None:
        state = accounts.SIGNED_OUT if is_active else account.state
        return Problem(accounts.unavailable_reason(state, ""), accounts.SIGN_IN_HINT)
    now = time.time()
    until = _refused_until(services, upstream_id)
    if until <= now:
        return None
    return Problem(f"The Codex account's quota is used up; it resets {status.format_time(until, now)}.")


def _refused_until(services: Services, upstream_id: str) -> float:
    """When the limit of all models resets, Unix seconds. Limits of single models do not count: others can serve."""
    limits = quota.read_limits(services, upstream_id)
    return max((limit.get("refused_until", 0) for limit in limits if limit["limit"] == quota.DEFAULT_LIMIT), default=0)
