"""The numbers of the overview: the sums of usage in a period, by several groups, with the times to first byte."""

import datetime
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import peewee

from floway_core.administration import usage
from floway_core.administration.usage import Usage
from floway_dashboard.recording import first_bytes
from floway_dashboard.recording.first_bytes import Times

PERIODS = {"today": ("Today", 0), "7d": ("7 days", 6), "30d": ("30 days", 29)}
"""The periods of the pages: the label of each, and how many days before today it begins."""

CHART_DAYS = 30

NO_USAGE = Usage({}, 0, 0, 0, 0, 0, 0, 0.0, 0)


@dataclass(frozen=True)
class Row:
    """The figures of a group of requests."""

    name: str
    usage: Usage
    times: Times | None = None

    @property
    def label(self) -> str:
        """The name to show. Requests that did not reach an upstream are counted without a model or an upstream."""
        return "none" if self.name == usage.NOBODY else self.name

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.usage.input_tokens + self.usage.output_tokens

    @property
    def error_share(self) -> float | None:
        """The share of the requests that failed; None without requests."""
        return self.usage.failed_requests / self.usage.requests if self.usage.requests else None

    @property
    def cached_share(self) -> float | None:
        """The share of the input tokens that an upstream had cached; None without input tokens."""
        return self.usage.cached_tokens / self.usage.input_tokens if self.usage.input_tokens else None


def today() -> datetime.date:
    """Return the current day in UTC; usage is counted by such days."""
    return datetime.datetime.now(datetime.UTC).date()


def first_day(period: str) -> datetime.date:
    """Return the first day of one of ``PERIODS``."""
    return today() - datetime.timedelta(PERIODS[period][1])


@dataclass(frozen=True)
class _CachedUsage:
    rows: Sequence[Usage]
    before: datetime.date
    """The first day that the rows do not cover."""
    expires_at: float
    """Monotonic time, seconds."""


_cache: WeakKeyDictionary[peewee.Database, dict[tuple[str, ...], _CachedUsage]] = WeakKeyDictionary()
"""Usage of past days, by query: to read that of a million requests takes a fifth of a second."""
CACHE_SECONDS = 300.0


def read_usage(database: peewee.Database, by: Sequence[str], since: datetime.date) -> list[Usage]:
    """Return usage as ``usage.read`` does, but a group may occur twice. Older days than yesterday come from a cache."""
    recent = max(since, today() - datetime.timedelta(1))
    query, now = (*by, str(since)), time.monotonic()
    entries = _cache.setdefault(database, {})
    cached = entries.get(query)
    if cached is None or cached.before != recent or cached.expires_at < now:
        rows = usage.read(database, by, since, before=recent)
        cached = entries[query] = _CachedUsage(rows, recent, now + CACHE_SECONDS)
    return [*cached.rows, *usage.read(database, by, recent)]


def add_up(name: str, rows: Iterable[Usage]) -> Row:
    """Return the sums of ``rows``."""
    sums: dict[str, float] = dict.fromkeys(usage.SUM_FIELDS, 0)
    for row in rows:
        for field in usage.SUM_FIELDS:
            sums[field] += getattr(row, field)
    return Row(name, Usage({}, **sums))  # type: ignore[arg-type]  # sums of whole numbers are whole


def sum_groups(rows: Iterable[Usage], by: str) -> list[Row]:
    """Return the sums of ``rows`` for each value of the group ``by``, those with the most requests first."""
    groups: dict[str, list[Usage]] = {}
    for row in rows:
        groups.setdefault(row.group[by], []).append(row)
    added = [add_up(name, parts) for name, parts in groups.items()]
    return sorted(added, key=lambda row: (-row.usage.requests, row.name))


def add_times(database: peewee.Database, rows: Sequence[Row], dimension: str, since: datetime.date) -> list[Row]:
    """Return ``rows`` with their times to first byte, where there are any."""
    times = first_bytes.read(database, dimension, [row.name for row in rows], since)
    return [Row(row.name, row.usage, times.get(row.name)) for row in rows]


def sum_days(database: peewee.Database) -> list[Row]:
    """Return the sums of each of the last ``CHART_DAYS`` days, the oldest first. Days without requests are included."""
    start = today() - datetime.timedelta(CHART_DAYS - 1)
    by_date = {row.group["day"]: row for row in read_usage(database, ["day"], start)}
    days = [str(start + datetime.timedelta(number)) for number in range(CHART_DAYS)]
    return [Row(day, by_date.get(day, NO_USAGE)) for day in days]
