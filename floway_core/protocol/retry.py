"""When to try again, as upstreams say it in error bodies and headers other than ``retry-after``."""

import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from floway_core.protocol.failures import Failure

MAX_RETRY_AFTER = 366 * 86_400
"""Seconds. What is further away is a mistake."""

MAX_SEARCHED = 5_000
"""Characters of a message that are searched."""


def retry_after(failure: Failure | None, headers: Iterable[tuple[str, str]]) -> int | None:
    """Whole seconds after which to try again; None where nothing says it.

    :param headers: of the answer, names in lower case.
    """
    for wait in (*_waits_in_body(failure), *_waits_in_headers(list(headers))):
        if wait is not None and 0 <= wait <= MAX_RETRY_AFTER:
            return max(1, math.ceil(wait))
    return None


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$")
_SPAN = r"\d+(?:\.\d+)? ?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])"
_TRY_AGAIN = re.compile(rf"(?:try again|retry)(?: after| in)?:? ((?:{_SPAN}[, ]*)+)", re.I)
_SECONDS_OF_UNIT = {"ms": 0.001, "mil": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _waits_in_body(failure: Failure | None) -> Iterator[float | None]:
    if failure is None:
        return
    for source in (failure.extra, failure.siblings):
        for name in ("resets_in_seconds", "retry_after", "retry_after_seconds", "reset_after_seconds", "retryDelay"):
            yield _seconds(source.get(name))
        for name in ("resets_at", "reset_at", "retry_at"):
            wait = _until(source.get(name))
            yield wait if wait != _seconds(source.get(name)) else None
        details = source.get("details")
        for detail in details if isinstance(details, list) else ():
            yield _seconds(detail.get("retryDelay")) if isinstance(detail, dict) else None
    metadata = failure.extra.get("metadata")
    if isinstance(metadata, dict) and isinstance(received := metadata.get("headers"), dict):  # of a provider behind it
        yield from _waits_in_headers([(str(name).lower(), str(value)) for name, value in received.items()])
    if stated := _TRY_AGAIN.search(failure.message[:MAX_SEARCHED]):
        spans = re.findall(r"(\d+(?:\.\d+)?) ?(ms|mil|s|m|h|d)", stated[1].lower())
        yield sum(float(number) * _SECONDS_OF_UNIT[unit] for number, unit in spans)


def _waits_in_headers(headers: list[tuple[str, str]]) -> Iterator[float | None]:
    for name, value in headers:
        if name == "retry-after-ms":
            yield (_seconds(value) or 0) / 1000 or None
    # The longest of several limits is the one to wait for where nothing says which was exceeded.
    spent = {name.replace("-remaining", "-reset") for name, value in headers if "ratelimit" in name and value == "0"}
    resets = [(name, value) for name, value in headers if "ratelimit" in name and "-reset" in name]
    resets = [one for one in resets if one[0] in spent] or resets
    waits = [wait for _, value in resets if (wait := _until(value)) is not None]
    yield max(waits, default=None)


def _seconds(value: Any) -> float | None:
    """Seconds from now: a number, ``"12"``, ``"1m30s"``."""
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


def _until(value: Any) -> float | None:
    """Seconds until a moment (Unix time in seconds or milliseconds, ISO 8601), or that many seconds."""
    seconds = _seconds(value)
    if seconds is not None:
        now = time.time()
        return seconds / 1000 - now if seconds > 1e11 else seconds - now if seconds > 1e8 else seconds
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
