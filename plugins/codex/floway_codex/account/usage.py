"""The account's usage as the backend reports it on request (``GET /wham/usage``), for accounts without current turns.

The form is that of the CLI's open-source client (codex-backend-openapi-models, RateLimitStatusPayload). Its request is
not recorded; it is sent like the request for models.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from floway_codex.account import accounts, quota
from floway_codex.account.tokens import TokenSource
from floway_codex.wire.profile import Profile
from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.storage.db import select
from floway_core.upstream import HttpClient

PATH = "/wham/usage"
TIMEOUT_SECONDS = 5.0
REFRESH_AFTER_SECONDS = 600
"""Age of the latest report at which the usage is requested again."""

FIND_ACTIVE = """
SELECT h.upstream_id, MAX(COALESCE(q.fetched_at, 0)) FROM codex_health h JOIN upstreams u ON u.id = h.upstream_id
    LEFT JOIN codex_quota q ON q.upstream_id = h.upstream_id
WHERE h.state = ? AND u.enabled GROUP BY h.upstream_id
"""

log = logging.getLogger("floway.codex")


def parse_usage(content: bytes, now: float) -> list[dict[str, Any]]:
    """The limits in the body of an answer, in the form of ``quota.parse_limits``. Empty if it is no such body."""
    try:
        payload = jsontext.loads(content)
    except ValueError:
        return []
    if not isinstance(payload, dict) or not isinstance(payload.get("rate_limit"), dict):
        return []
    credits = payload.get("credits")
    default = {
        "limit": quota.DEFAULT_LIMIT,
        **_parse_limit(payload["rate_limit"], now),
        "plan": payload.get("plan_type"),
        "credits": quota.parse_credits(credits if isinstance(credits, dict) else {}),
    }
    additional = payload.get("additional_rate_limits")
    additional_limits = [
        {
            "limit": quota.normalize_limit_name(str(entry.get("metered_feature") or entry.get("limit_name") or "")),
            "name": str(entry.get("limit_name") or "")[: quota.MAX_NAME_LENGTH],
            **_parse_limit(entry["rate_limit"], now),
        }
        for entry in (additional if isinstance(additional, list) else [])[: quota.MAX_LIMITS]
        if isinstance(entry, dict) and isinstance(entry.get("rate_limit"), dict)
    ]
    limits = [quota.without_empty(**limit) for limit in (default, *additional_limits) if limit["limit"]]
    return [limit for limit in limits if len(limit) > 1]


def _parse_limit(limit: Mapping[str, Any], now: float) -> dict[str, Any]:
    windows = {name: _parse_window(limit.get(f"{name}_window"), now) for name in quota.WINDOWS}
    if limit.get("limit_reached") is not True:
        return windows
    exhausted = [window for window in windows.values() if window.get("used_percent", 0) >= 100]
    resets = [window.get("resets_at", 0) for window in exhausted or windows.values()]
    return {**windows, "refused_until": max(resets) or None}


def _parse_window(window: Any, now: float) -> dict[str, Any]:
    if not isinstance(window, dict):
        return {}
    seconds = quota.parse_number(window.get("limit_window_seconds"))
    return quota.without_empty(
        used_percent=quota.parse_number(window.get("used_percent")),
        window_minutes=seconds / 60 if seconds else None,
        resets_at=quota.parse_time(window.get("reset_at"), window.get("reset_after_seconds"), now),
    )


@dataclass(eq=False)
class UsageReader:
    """Requests the usage of accounts from the backend. One per process."""

    services: Services
    http: HttpClient
    tokens: TokenSource
    base_url: str
    profile_for: Callable[[str], Profile]
    """The profile for requests about an upstream's account."""
    now: Callable[[], float] = time.time
    _running: threading.Lock = field(default_factory=threading.Lock)
    _next_try: float = 0.0
    """Unix time in seconds before which the thread is not started again."""

    def refresh(self, upstream_id: str, *, renews: bool = True) -> bool:
        """Request the usage of an account, and store it. Failures are only logged.

        :param renews: whether to renew the access token if it has expired; otherwise no request is sent.
        :returns: whether there was an answer.
        """
        try:
            account = accounts.require_active(self.services, upstream_id)
            if not renews and not (account.encrypted_token and (account.token_expires_at or 0) > self.now()):
                return False
            token = (
                self.tokens.token_for_account(account)
                if renews
                else self.services.secrets.decrypt(account.encrypted_token or "")
            )
            url, headers = f"{self.base_url}{PATH}", self._headers(account, token)
            response = self.http.fetch("GET", url, headers, timeout=TIMEOUT_SECONDS)
        except GatewayError as error:
            log.info("The usage of upstream %s could not be read: %s", upstream_id, error.message)
            return False
        limits = parse_usage(response.content, self.now()) if response.status_code == 200 else []
        quota.store_limits(self.services, upstream_id, limits)
        return bool(limits)

    def headers(self, upstream_id: str) -> dict[str, str]:
        """Return the headers of a request for the usage of an account. Its access token is renewed if it has expired.

        :raises GatewayError: 503, the account cannot be used.
        """
        account = accounts.require_active(self.services, upstream_id)
        return self._headers(account, self.tokens.token_for_account(account))

    def _headers(self, account: accounts.Account, token: str) -> dict[str, str]:
        profile = self.profile_for(account.upstream_id)
        values = {**profile.static_values, "access_token": token, "account_id": account.account_id}
        return dict(profile.models_headers.render(values))

    def refresh_old(self) -> None:
        """Request the usage of all accounts without a recent report, in a thread of its own.

        Do nothing while the thread runs, or if it has just run.
        """
        if self.now() < self._next_try or not self._running.acquire(blocking=False):
            return
        self._next_try = self.now() + REFRESH_AFTER_SECONDS
        try:
            # Not a daemon thread: a renewed token has to be stored before the process ends.
            threading.Thread(target=self._refresh_old, name="codex-usage").start()
        except RuntimeError:  # no thread can be started at the moment
            self._running.release()

    def _refresh_old(self) -> None:
        try:
            for upstream_id, fetched_at in select(self.services.database, FIND_ACTIVE, accounts.ACTIVE):
                if self.now() > fetched_at + REFRESH_AFTER_SECONDS:
                    self.refresh(upstream_id)
        except Exception:  # no caller can see the failure of this thread
            log.exception("The usage of the accounts could not be read")
        finally:
            self._running.release()
