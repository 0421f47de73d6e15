"""When to retry, as upstreams state it in error bodies and in headers other than ``retry-after``."""

import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from floway_core.protocol.failures import Failure

MAX_RETRY_AFTER_SECONDS = 366 * 86_400
"""A longer time is an error of the upstream."""


def retry_after(failure: Failure | None, headers: Iterable[tuple[str, str]]) -> int | None:
    """Return after how many seconds to retry; None if nothing states it.

    :param headers: response headers, names in lower case.
    """
    for wait in (*_waits_in_body(failure), *_waits_in_headers(list(headers))):
        if wait is not None and 0 <= wait <= MAX_RETRY_AFTER_SECONDS:
            return max(1, math.ceil(wait))
    return None


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$")
_TRY_AGAIN = re.compile(r"(?:try again|retry)(?: after| in)? (\d+(?:\.\d+)?) ?(ms|s|sec|second|m\b|min)", re.I)


def _waits_in_body(failure: Failure | None) -> Iterator[float | None]:
    if failure is None:
        return
    for source in (failure.extra, failure.siblings):
        for name in ("resets_in_seconds", "retry_after", "retry_after_seconds", "reset_after_seconds", "retryDelay"):
            yield _parse_seconds(source.get(name))
        for name in ("resets_at", "reset_at", "retry_at"):
            wait = _seconds_until(source.get(name))
            yield wait if wait != _parse_seconds(source.get(name)) else None
        details = source.get("details")
        for detail in details if isinstance(details, list) else ():
            yield _parse_seconds(detail.get("retryDelay")) if isinstance(detail, dict) else None
    if match := _TRY_AGAIN.search(failure.message):
        unit = match[2].lower()
        yield float(match[1]) * (0.001 if unit == "ms" else 60 if unit.startswith("m") else 1)


def _waits_in_headers(headers: list[tuple[str, str]]) -> Iterator[float | None]:
    for name, value in headers:
        if name == "retry-after-ms":
            yield (_parse_seconds(value) or 0) / 1000 or None
    # Wait for the limits that are exhausted; if none is marked so, for all. The longest wait counts.
    limits = [(name, value) for name, value in headers if "ratelimit" in name]
    exhausted = {name.replace("-remaining", "-reset") for name, value in limits if value == "0"}
    resets = [(name, value) for name, value in limits if "-reset" in name]
    resets = [(name, value) for name, value in resets if name in exhausted] or resets
    waits = [wait for _, value in resets if (wait := _seconds_until(value)) is not None]
    yield max(waits, default=None)


def _parse_seconds(value: Any) -> float | None:
    """Parse a duration in seconds: a number, ``"12"``, ``"1m30s"``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not value:
        return None
    if re.fullmatch(r"\d{1,12}(\.\d+)?", value):
        return float(value)
    if match := _DURATION.match(value):
        days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + milliseconds / 1000
    return None


def _seconds_until(value: Any) -> float | None:
    """Parse a point in time (Unix time in seconds or milliseconds, ISO 8601) or a duration; return seconds from now."""
    seconds = _parse_seconds(value)
    if seconds is not None:
        now = time.time()
        return seconds / 1000 - now if seconds > 1e11 else seconds - now if seconds > 1e8 else seconds
    if not isinstance(value, str):
        return None
    try:
        timestamp = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).timestamp() - time.time()
