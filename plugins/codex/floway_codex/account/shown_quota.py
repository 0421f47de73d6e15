"""The limits of an account as the gateway shows them to the operator."""

from collections.abc import Iterator
from typing import Any

from floway_codex.account import quota
from floway_codex.account.status import format_duration, format_time
from floway_core.contexts import Services
from floway_core.provider import Quota


def read_quotas(services: Services, upstream_id: str, now: float) -> list[Quota]:
    """The last report of each limit of an account, one entry for each of its windows.

    :param now: Unix time in seconds.
    """
    return [shown for limit in quota.read_limits(services, upstream_id) for shown in _shown_windows(limit, now)]


def _shown_windows(limit: dict[str, Any], now: float) -> Iterator[Quota]:
    """Yield what to show of a limit, as ``quota.read_limits`` returns it."""
    is_default = limit["limit"] == quota.DEFAULT_LIMIT
    prefix = "" if is_default else f"{limit.get('name') or limit['limit']}: "
    until = limit.get("refused_until", 0)
    note = f"refused until {format_time(until, now)}" if until > now else ""
    windows = [(name, limit[name]) for name in quota.WINDOWS if name in limit]
    for name, window in windows:
        minutes, used = window.get("window_minutes"), window.get("used_percent")
        is_over = window.get("resets_at", now + 1) <= now
        yield Quota(
            f"{prefix}{format_duration(minutes * 60) if minutes else name}",
            None if used is None else 0.0 if is_over else used / 100,
            None if is_over else window.get("resets_at"),
            limit["fetched_at"],
            note,
        )
    if note and not windows:
        yield Quota(f"{prefix}requests", None, until, limit["fetched_at"], note)
