"""The numbers of the overview: usage of a period, summed up in several ways, with the times until first bytes."""

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
"""What each is called, and how many days before today it begins."""

CHART_DAYS = 30

NOTHING = Usage({}, 0, 0, 0, 0, 0, 0, 0.0, 0)


@dataclass(frozen=True)
class Row:
    """The figures of a group of requests."""

    name: str
    usage: Usage
    times: Times | None = None

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.usage.input_tokens + self.usage.output_tokens

    @property
    def error_share(self) -> float | None:
        """Which share of the requests failed; None if there were none."""
        return self.usage.failed_requests / self.usage.requests if self.usage.requests else None

    @property
    def cached_share(self) -> float | None:
        """Which share of the input tokens came from a cache of an upstream; None if there were none."""
        return self.usage.cached_tokens / self.usage.input_tokens if self.usage.input_tokens else None


def today() -> datetime.date:
    """The day, in UTC, by which usage is counted."""
    return datetime.datetime.now(datetime.UTC).date()


def first_day(period: str) -> datetime.date:
    """Return the first day of one of ``PERIODS``."""
    return today() - datetime.timedelta(PERIODS[period][1])


@dataclass(frozen=True)
class _Kept:
    rows: Sequence[Usage]
    before: datetime.date
    """The first day that is not among them."""
    until: float
    """Monotonic time, seconds."""


_kept: WeakKeyDictionary[peewee.Database, dict[tuple[str, ...], _Kept]] = WeakKeyDictionary()
"""Usage of days that are over, by what was asked: a million requests take a fifth of a second to read."""
KEPT_SECONDS = 300.0


def read_usage(database: peewee.Database, by: Sequence[str], since: datetime.date) -> list[Usage]:
    """Return usage as ``usage.read`` does; a group may come twice. Only the last two days are always read anew."""
    recent = max(since, today() - datetime.timedelta(1))
    asked, now = (*by, str(since)), time.monotonic()
    answers = _kept.setdefault(database, {})
    kept = answers.get(asked)
    if kept is None or kept.before != recent or kept.until < now:
        rows = usage.read(database, by, since, before=recent)
        kept = answers[asked] = _Kept(rows, recent, now + KEPT_SECONDS)
    return [*kept.rows, *usage.read(database, by, recent)]


def add_up(name: str, rows: Iterable[Usage]) -> Row:
    """Return the sums of ``rows``."""
    sums: dict[str, float] = dict.fromkeys(usage.SUM_FIELDS, 0)
    for row in rows:
        for field in usage.SUM_FIELDS:
            sums[field] += getattr(row, field)
    return Row(name, Usage({}, **sums))  # type: ignore[arg-type]  # sums of whole numbers are whole


def grouped(rows: Iterable[Usage], by: str) -> list[Row]:
    """Return the sums of ``rows`` for each value of the group ``by``, those with the most requests first."""
    groups: dict[str, list[Usage]] = {}
    for row in rows:
        groups.setdefault(row.group[by], []).append(row)
    added = [add_up(name, parts) for name, parts in groups.items()]
    return sorted(added, key=lambda row: (-row.usage.requests, row.name))


def with_times(database: peewee.Database, rows: Sequence[Row], dimension: str, since: datetime.date) -> list[Row]:
    """Return ``rows`` with the times until first bytes, as far as there are any."""
    times = first_bytes.read(database, dimension, [row.name for row in rows], since)
    return [Row(row.name, row.usage, times.get(row.name)) for row in rows]


def by_day(database: peewee.Database) -> list[Row]:
    """Return the sums of the last days, also of those without requests, the oldest first."""
    start = today() - datetime.timedelta(CHART_DAYS - 1)
    found = {row.group["day"]: row for row in read_usage(database, ["day"], start)}
    days = [str(start + datetime.timedelta(number)) for number in range(CHART_DAYS)]
    return [Row(day, found.get(day, NOTHING)) for day in days]
