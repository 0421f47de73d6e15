"""How templates show numbers, times and durations."""

import datetime
import time
from collections.abc import Callable
from typing import Any

MISSING = "–"
"""The text for a missing value."""


def number(value: float | None) -> str:
    """A whole number with separators: ``1,234,567``."""
    return MISSING if value is None else f"{value:,.0f}"


def short_number(value: float | None) -> str:
    """A rounded number: ``1.2M``."""
    if value is None:
        return MISSING
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            scaled = value / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"


def percent(share: float | None) -> str:
    """A share from 0 to 1."""
    if share is None:
        return MISSING
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share * 100:.1f} %" if 0 < share < 0.1 else f"{share * 100:.0f} %"


def money(usd: float | None) -> str:
    """An amount in US dollars."""
    if usd is None:
        return MISSING
    if usd >= 10_000:
        return f"${usd:,.0f}"
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.995 else f"${usd:.4f}"


def duration(seconds: float | None) -> str:
    """A short duration: ``340 ms``, ``2.5 s``, ``3 min``."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float | None) -> str:
    """A number of bytes: ``1.5 MiB``."""
    if count is None:
        return MISSING
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def date_time(unix: float | None) -> str:
    """A time, to the minute, in UTC."""
    return MISSING if unix is None else datetime.datetime.fromtimestamp(unix, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def iso(unix: float | None) -> str:
    """A time for the attribute ``datetime``."""
    return "" if unix is None else datetime.datetime.fromtimestamp(unix, datetime.UTC).isoformat(timespec="seconds")


def relative_time(unix: float | None) -> str:
    """A time relative to now: ``5 minutes ago``, ``in 2 hours``."""
    if unix is None:
        return "never"
    seconds = unix - time.time()
    size = abs(seconds)
    if size < 60:
        return "just now" if seconds <= 0 else "in a moment"
    units = (("day", 86_400), ("hour", 3600), ("minute", 60))
    name, count = next((name, int(size // length)) for name, length in units if size >= length)
    text = f"{count} {name}{'s' if count != 1 else ''}"
    return f"{text} ago" if seconds < 0 else f"in {text}"


FILTERS: dict[str, Callable[[Any], str]] = {
    function.__name__: function
    for function in (number, short_number, percent, money, duration, size, date_time, iso, relative_time)
}
"""The filters of all templates. In those, their names begin with ``as_``."""
