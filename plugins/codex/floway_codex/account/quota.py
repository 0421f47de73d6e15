"""What the backend says about an account's limits: kept for ``floway codex status``, never in a request's way."""

import datetime
import json
import logging
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from floway_codex.tables import Quota
from floway_core.contexts import Services
from floway_core.protocol import jsontext
from floway_core.storage.db import DATABASE_ERRORS, select

PREFIX = "x-codex-"
FAMILY = re.compile(r"x-(codex-.+)-primary-used-percent")
"""The header by which a limit is known that has headers of its own."""
WINDOWS = ("primary", "secondary")
DEFAULT_LIMIT = "codex"
LONGEST_NAME = 100
MOST_LIMITS = 16
"""Limits of one answer that are kept."""
REWRITE_AFTER = 60
"""Seconds after which a snapshot is stored anew although it says nothing new."""

log = logging.getLogger("floway.codex")


# ---------------------------------------------------------------------------------------------------------- parsing
def snapshots(headers: Sequence[tuple[str, str]], now: float, refusal: bytes | None = None) -> list[dict[str, Any]]:
    """The limits in an answer's headers and, if it was a 429, its body; the one that the request counts for is first.

    Values may be missing, empty, or no numbers; such ones are left out. Times are Unix seconds.

    :param headers: names in lower case: ``x-codex-*``, and ``x-codex-<limit>-*`` for further limits.
    :param now: Unix time in seconds.
    :param refusal: the body of a 429.
    :returns: ``limit``, ``name``, ``plan``, ``primary`` and ``secondary`` (``used_percent``, ``window_minutes``,
        ``resets_at``), ``credits`` and ``refused_until``, as far as known.
    """
    headers = [(name, value) for name, value in headers if name.startswith(PREFIX)]
    if not headers and refusal is None:
        return []
    said = {name.removeprefix(PREFIX): value.strip() for name, value in headers}
    own = {_limit_name(found[1]): f"x-{found[1]}-" for name, _ in headers if (found := FAMILY.fullmatch(name))}
    active = _limit_name(said.get("active-limit") or DEFAULT_LIMIT)
    default = {
        "limit": DEFAULT_LIMIT if active in own else active,
        **{name: _window(said, name, now) for name in WINDOWS},
        "plan": said.get("plan-type"),
        "credits": _known(
            has_credits=_flag(said.get("credits-has-credits")),
            unlimited=_flag(said.get("credits-unlimited")),
            balance=said.get("credits-balance"),
        ),
    }
    found = [default, *(_family(limit, prefix, headers, now) for limit, prefix in list(own.items())[:MOST_LIMITS])]
    found.sort(key=lambda limit: limit["limit"] != active)
    if refusal is not None:
        found[0] |= _refused(refusal, [found[0][name] for name in WINDOWS], now)
    return [limit for limit in (_known(**limit) for limit in found) if len(limit) > 1]


def _family(limit: str, prefix: str, headers: Sequence[tuple[str, str]], now: float) -> dict[str, Any]:
    said = {name.removeprefix(prefix): value.strip() for name, value in headers if name.startswith(prefix)}
    windows = {name: _window(said, name, now) for name in WINDOWS}
    return {"limit": limit, "name": (said.get("limit-name") or "")[:LONGEST_NAME], **windows}


def _limit_name(stated: str) -> str:
    """Headers spell limits with hyphens, ``x-codex-active-limit`` with underscores."""
    return stated.lower().replace("-", "_")[:LONGEST_NAME]


def _window(said: Mapping[str, str], name: str, now: float) -> dict[str, Any]:
    return _known(
        used_percent=_number(said.get(f"{name}-used-percent")),
        window_minutes=_number(said.get(f"{name}-window-minutes")) or None,
        resets_at=_instant(said.get(f"{name}-reset-at"), said.get(f"{name}-reset-after-seconds"), now),
    )


def _refused(body: bytes, windows: Iterable[Mapping[str, Any]], now: float) -> dict[str, Any]:
    """Until when a 429 lasts: ``{"error": {"type": "usage_limit_reached", "resets_at", "resets_in_seconds"}}``."""
    try:
        error = jsontext.loads(body)["error"]
        until = _instant(error.get("resets_at"), error.get("resets_in_seconds"), now)
        reason = error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        until = reason = None
    until = until or max((window.get("resets_at", 0) for window in windows), default=0) or None
    return {"refused_until": until, "refused_because": reason if isinstance(reason, str) else None}


def _instant(at: Any, after: Any, now: float) -> int | None:
    """Unix seconds from an instant (Unix seconds or RFC 3339) or from seconds to wait; 0 and blank say nothing."""
    instant, wait = _number(at), _number(after)
    if instant:
        return int(instant)
    if isinstance(at, str) and instant is None:
        try:
            return int(datetime.datetime.fromisoformat(at).timestamp())
        except (ValueError, OverflowError):
            pass
    return int(now + wait) if wait else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number < 2**53 else None


def _flag(value: str | None) -> bool | None:
    return {"true": True, "false": False}.get((value or "").lower())


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", {})}


# ---------------------------------------------------------------------------------------------------------- storing
def note(
    services: Services, upstream_id: str, headers: Sequence[tuple[str, str]], refusal: bytes | None = None
) -> None:
    """Keep what an answer says about limits. When it cannot be stored, that is logged and nothing else happens."""
    now = time.time()
    try:
        for found in snapshots(headers, now, refusal):
            _keep(services, upstream_id, found, int(now))
    except DATABASE_ERRORS as error:
        log.warning("The quota of upstream %s could not be stored: %s", upstream_id, error)


def _keep(services: Services, upstream_id: str, found: dict[str, Any], now: int) -> None:
    """Reading is much cheaper than writing, and sees what other processes have written."""
    database = services.database
    query = "SELECT fetched_at, snapshot_json FROM codex_quota WHERE upstream_id = ? AND limit_name = ?"
    rows = select(database, query, upstream_id, found["limit"])
    if rows and now < rows[0][0] + REWRITE_AFTER and alike(json.loads(rows[0][1]), found):
        return
    row = {"fetched_at": now, "snapshot_json": json.dumps(found)}
    query = Quota.insert(upstream_id=upstream_id, limit_name=found["limit"], **row).on_conflict(
        conflict_target=[Quota.upstream_id, Quota.limit_name], update=row
    )
    with database.connection_context():
        query.execute(database)


def alike(old: Any, new: Any) -> bool:
    """Whether two snapshots say the same, but for parts of a percent and the instants of windows that move along."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return old == new
    return old.keys() == new.keys() and all(_rounded(name, old[name], new[name]) for name in old)


def _rounded(name: str, old: Any, new: Any) -> bool:
    if name == "used_percent":
        return int(old) == int(new)
    if name in ("resets_at", "refused_until"):
        return abs(old - new) < REWRITE_AFTER
    return alike(old, new)


def read(services: Services, upstream_id: str) -> list[dict[str, Any]]:
    """The latest snapshot of each limit, each with ``fetched_at``, newest first."""
    query = Quota.select(Quota.fetched_at, Quota.snapshot_json).where(Quota.upstream_id == upstream_id)
    with services.database.connection_context():
        rows = list(query.order_by(Quota.fetched_at.desc(), Quota.limit_name).tuples().execute(services.database))
    return [{**json.loads(text), "fetched_at": fetched_at} for fetched_at, text in rows]
