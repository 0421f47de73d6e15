"""The limits of an account as the backend reports them. They are stored for display, and never delay a request."""

import datetime
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from floway_codex.identity.turns import TURN_STATE
from floway_codex.tables import Quota
from floway_core.contexts import Services
from floway_core.protocol import jsontext
from floway_core.storage.db import DATABASE_ERRORS, select, transaction

PREFIX = "x-codex-"
FAMILY = re.compile(r"x-(codex-.+)-primary-used-percent")
"""The header that marks a limit with headers of its own."""
WINDOWS = ("primary", "secondary")
DEFAULT_LIMIT = "codex"
MAX_NAME_LENGTH = 100
MAX_LIMITS = 16
"""The most limits of one response that are stored."""
SAME_REPORT_SECONDS = 1.0
"""How long a report is not looked up again."""
REWRITE_AFTER_SECONDS = 60
"""Age at which an unchanged report is stored again."""

log = logging.getLogger("floway.codex")


# ---------------------------------------------------------------------------------------------------------- parsing
def parse_limits(headers: Sequence[tuple[str, str]], now: float, refusal: bytes | None = None) -> list[dict[str, Any]]:
    """The limits in the headers of a response and, if it is a 429, in its body. The limit of the request is first.

    Values that are missing, empty or not numbers are left out. Times are Unix seconds.

    :param headers: names in lower case: ``x-codex-*``, and ``x-codex-<limit>-*`` for further limits.
    :param now: Unix time in seconds.
    :param refusal: the body of a 429.
    :returns: ``limit``, ``name``, ``plan``, ``primary`` and ``secondary`` (``used_percent``, ``window_minutes``,
        ``resets_at``), ``credits`` and ``refused_until``, if known.
    """
    headers = [(name, value) for name, value in headers if name.startswith(PREFIX)]
    if not headers and refusal is None:
        return []
    fields = {name.removeprefix(PREFIX): value.strip() for name, value in headers}
    prefixes = {
        normalize_limit_name(match[1]): f"x-{match[1]}-" for name, _ in headers if (match := FAMILY.fullmatch(name))
    }
    active = normalize_limit_name(fields.get("active-limit") or DEFAULT_LIMIT)
    default = {
        "limit": DEFAULT_LIMIT if active in prefixes else active,
        **{name: _parse_window(fields, name, now) for name in WINDOWS},
        "plan": fields.get("plan-type"),
        "credits": parse_credits(
            {name: fields.get(f"credits-{name.replace('_', '-')}") for name in ("has_credits", "unlimited", "balance")}
        ),
    }
    further = list(prefixes.items())[:MAX_LIMITS]
    limits = [default, *(_parse_family(limit, prefix, headers, now) for limit, prefix in further)]
    limits.sort(key=lambda limit: bool(limit["limit"] != active))
    if refusal is not None:
        limits[0] |= _parse_refusal(refusal, [limits[0][name] for name in WINDOWS], now)
    return [limit for limit in (without_empty(**limit) for limit in limits) if len(limit) > 1]


def parse_limits_event(event: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    """The limit in an event ``codex.rate_limits``, which a WebSocket has in place of the headers.

    :param now: Unix time in seconds.
    """
    reported, credits = event.get("rate_limits"), event.get("credits")
    windows = {name: reported.get(name) for name in WINDOWS} if isinstance(reported, dict) else {}
    limit = without_empty(
        limit=DEFAULT_LIMIT,
        **{name: _parse_window_object(window, now) for name, window in windows.items() if isinstance(window, dict)},
        plan=event.get("plan_type") if isinstance(event.get("plan_type"), str) else None,
        credits=parse_credits(credits if isinstance(credits, dict) else {}),
    )
    return [limit] if len(limit) > 1 else []


def _parse_window_object(window: Mapping[str, Any], now: float) -> dict[str, Any]:
    return without_empty(
        used_percent=parse_number(window.get("used_percent")),
        window_minutes=parse_number(window.get("window_minutes")) or None,
        resets_at=parse_time(window.get("reset_at"), window.get("reset_after_seconds"), now),
    )


def _parse_family(limit: str, prefix: str, headers: Sequence[tuple[str, str]], now: float) -> dict[str, Any]:
    fields = {name.removeprefix(prefix): value.strip() for name, value in headers if name.startswith(prefix)}
    windows = {name: _parse_window(fields, name, now) for name in WINDOWS}
    return {"limit": limit, "name": (fields.get("limit-name") or "")[:MAX_NAME_LENGTH], **windows}


def parse_credits(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``has_credits`` and ``unlimited`` as flags, ``balance`` as text."""
    balance = fields.get("balance")
    return without_empty(
        has_credits=_parse_flag(fields.get("has_credits")),
        unlimited=_parse_flag(fields.get("unlimited")),
        balance=None if balance is None else str(balance),
    )


def normalize_limit_name(stated: str) -> str:
    """The name of a limit with underscores, as in ``x-codex-active-limit``; header names spell it with hyphens."""
    return stated.lower().replace("-", "_")[:MAX_NAME_LENGTH]


def _parse_window(fields: Mapping[str, str], name: str, now: float) -> dict[str, Any]:
    return without_empty(
        used_percent=parse_number(fields.get(f"{name}-used-percent")),
        window_minutes=parse_number(fields.get(f"{name}-window-minutes")) or None,
        resets_at=parse_time(fields.get(f"{name}-reset-at"), fields.get(f"{name}-reset-after-seconds"), now),
    )


def _parse_refusal(body: bytes, windows: Iterable[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """When a 429 ends: ``{"error": {"type": "usage_limit_reached", "resets_at", "resets_in_seconds"}}``."""
    try:
        error = jsontext.loads(body)["error"]
        until = parse_time(error.get("resets_at"), error.get("resets_in_seconds"), now)
        reason = error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        until = reason = None
    until = until or max((window.get("resets_at", 0) for window in windows), default=0) or None
    return {"refused_until": until, "refused_because": reason if isinstance(reason, str) else None}


def parse_time(at: Any, after: Any, now: float) -> int | None:
    """Unix seconds from a time (Unix seconds or RFC 3339) or from seconds to wait; 0 and blanks count as missing."""
    instant, wait = parse_number(at), parse_number(after)
    if instant:
        return int(instant)
    if isinstance(at, str) and instant is None:
        try:
            return int(datetime.datetime.fromisoformat(at).timestamp())
        except (ValueError, OverflowError):
            pass
    return int(now + wait) if wait else None


def parse_number(value: Any) -> float | None:
    """A finite number that is not negative; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number < 2**53 else None


def _parse_flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())


def without_empty(**values: Any) -> dict[str, Any]:
    """The values that say something."""
    return {name: value for name, value in values.items() if value not in (None, "", {})}


# ---------------------------------------------------------------------------------------------------------- storing
class LimitLog:
    """Stores the limits that responses report. One per process; serves all threads."""

    def __init__(self, services: Services, now: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._now = now
        self._latest: dict[str, tuple[list[tuple[str, str]], float]] = {}
        """By upstream id: the headers that were stored last, and when."""

    def record(self, upstream_id: str, headers: Sequence[tuple[str, str]], refusal: bytes | None = None) -> None:
        """Store the limits that a response reports, unless they are what the one just before it said.

        :param refusal: the body of a 429.
        """
        if refusal is not None:
            self._latest.pop(upstream_id, None)
            record_limits(self._services, upstream_id, headers, refusal)
            return
        reported, now = [pair for pair in headers if pair[0].startswith(PREFIX) and pair[0] != TURN_STATE], self._now()
        latest, stored_at = self._latest.get(upstream_id, ([], 0.0))
        if reported != latest or now > stored_at + SAME_REPORT_SECONDS:
            record_limits(self._services, upstream_id, reported)
            self._latest[upstream_id] = reported, now


def record_limits(
    services: Services, upstream_id: str, headers: Sequence[tuple[str, str]], refusal: bytes | None = None
) -> None:
    """Store the limits that a response reports. A failure of the database is only logged."""
    store_limits(services, upstream_id, parse_limits(headers, time.time(), refusal))


def store_limits(services: Services, upstream_id: str, limits: Iterable[dict[str, Any]]) -> None:
    """Store the latest reports of limits. A failure of the database is only logged."""
    now = time.time()
    try:
        for limit in limits:
            _store_limit(services, upstream_id, limit, int(now))
    except DATABASE_ERRORS as error:
        log.warning("The quota of upstream %s could not be stored: %s", upstream_id, error)


def _store_limit(services: Services, upstream_id: str, limit: dict[str, Any], now: int) -> None:
    """Store a limit unless it is unchanged. Reading first is much cheaper than writing each time."""
    database = services.database
    query = "SELECT fetched_at, snapshot_json FROM codex_quota WHERE upstream_id = ? AND limit_name = ?"
    rows = select(database, query, upstream_id, limit["limit"])
    if rows and now < rows[0][0] + REWRITE_AFTER_SECONDS and are_alike(json.loads(rows[0][1]), limit):
        return
    row = {"fetched_at": now, "snapshot_json": json.dumps(limit)}
    insert = Quota.insert(upstream_id=upstream_id, limit_name=limit["limit"], **row).on_conflict(
        conflict_target=[Quota.upstream_id, Quota.limit_name], update=row
    )
    with transaction(database):
        insert.execute(database)


def are_alike(old: Any, new: Any) -> bool:
    """Whether two reports are equal, apart from fractions of a percent and small shifts of times."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return bool(old == new)
    return old.keys() == new.keys() and all(_is_alike(name, old[name], new[name]) for name in old)


def _is_alike(name: str, old: Any, new: Any) -> bool:
    if name == "used_percent":
        return bool(int(old) == int(new))
    if name in ("resets_at", "refused_until"):
        return bool(abs(old - new) < REWRITE_AFTER_SECONDS)
    return are_alike(old, new)


def read_limits(services: Services, upstream_id: str) -> list[dict[str, Any]]:
    """The latest report of each limit with its ``fetched_at``, newest first."""
    query = Quota.select(Quota.fetched_at, Quota.snapshot_json).where(Quota.upstream_id == upstream_id)
    with services.database.connection_context():
        rows = list(query.order_by(Quota.fetched_at.desc(), Quota.limit_name).tuples().execute(services.database))
    return [{**json.loads(text), "fetched_at": fetched_at} for fetched_at, text in rows]
