"""Read when to retry from error bodies, and from headers other than ``retry-after``."""

import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from floway_core.protocol.failures import Failure

MAX_RETRY_AFTER_SECONDS = 366 * 86_400
"""A longer wait is an error of the upstream."""

MAX_MESSAGE_LENGTH = 5_000
"""Characters of a message that are searched for a wait."""


def retry_after(failure: Failure | None, headers: Iterable[tuple[str, str]]) -> int | None:
    """Return the whole seconds after which to retry; None if neither the body nor the headers state it.

    :param failure: the failure that the body of the response reports.
    :param headers: headers of the response, names in lower case.
    """
    for wait in (*_waits_in_body(failure), *_waits_in_headers(list(headers))):
        if wait is not None and 0 <= wait <= MAX_RETRY_AFTER_SECONDS:
            return max(1, math.ceil(wait))
    return None


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$")
_SPAN = r"\d+(?:\.\d+)? ?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])"
_TRY_AGAIN = re.compile(rf"(?:try again|retry)(?: after| in)?:? ((?:{_SPAN}[, ]*)+)", re.IGNORECASE)
_SECONDS_OF_UNIT = {"ms": 0.001, "mil": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _waits_in_body(failure: Failure | None) -> Iterator[float | None]:
    """Yield the waits in seconds that a failure states, its message last; None for fields without one."""
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
    metadata = failure.extra.get("metadata")
    # An upstream that is a gateway may quote the headers of its own upstream.
    if isinstance(metadata, dict) and isinstance(inner_headers := metadata.get("headers"), dict):
        yield from _waits_in_headers([(str(name).lower(), str(value)) for name, value in inner_headers.items()])
    if match := _TRY_AGAIN.search(failure.message[:MAX_MESSAGE_LENGTH]):
        spans = re.findall(r"(\d+(?:\.\d+)?) ?(ms|mil|s|m|h|d)", match[1].lower())
        yield sum(float(number) * _SECONDS_OF_UNIT[unit] for number, unit in spans)


def _waits_in_headers(headers: list[tuple[str, str]]) -> Iterator[float | None]:
    """Yield the waits in seconds that headers state; None for headers without one."""
    for name, value in headers:
        if name == "retry-after-ms":
            yield (_parse_seconds(value) or 0) / 1000 or None
    # If no header tells which of several limits was exceeded, wait for the longest.
    used_up = {name.replace("-remaining", "-reset") for name, value in headers if "ratelimit" in name and value == "0"}
    resets = [(name, value) for name, value in headers if "ratelimit" in name and "-reset" in name]
    resets = [(name, value) for name, value in resets if name in used_up] or resets
    waits = [wait for _, value in resets if (wait := _seconds_until(value)) is not None]
    yield max(waits, default=None)


def _parse_seconds(value: Any) -> float | None:
    """Parse a duration in seconds: a number, ``"12"``, ``"1m30s"``; None if it is invalid."""
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
    """Return the seconds until a date (Unix time in seconds or milliseconds, or ISO 8601). Parse durations, too."""
    seconds = _parse_seconds(value)
    if seconds is not None:
        now = time.time()
        return seconds / 1000 - now if seconds > 1e11 else seconds - now if seconds > 1e8 else seconds
    if not isinstance(value, str):
        return None
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
