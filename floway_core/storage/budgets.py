"""Budgets: the money that API keys and groups of them have spent, counted in the database by UTC day.

A request is charged when it ends, for the day on which it ends. There is one row for each day, so nothing is reset: a
month is the sum of its days, and a clock that jumps loses nothing.
"""

import datetime
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import peewee

from floway_core.contexts import Budget
from floway_core.errors import GatewayError
from floway_core.prices import BILLION, to_billionths
from floway_core.protocol.durations import format_duration
from floway_core.storage.db import execute, placeholders, select
from floway_core.storage.tables import Spending

DAY = 86_400
"""Seconds."""

EPOCH = datetime.date(1970, 1, 1)

RETENTION_DAYS = 100
"""How long the rows of a day are stored. Only those of the current month are read."""

ROWS_PER_INSERT = 100

Sums = Mapping[tuple[str, int], tuple[int, int]]
"""What to add: money in billionths of a USD and the number of unpriced requests, by holder and day."""


@dataclass(frozen=True)
class Spent:
    """What a key or a group has spent, in billionths of a USD."""

    today: int = 0
    this_month: int = 0
    unpriced_requests: int = 0
    """Requests of this month whose cost is unknown, and not included."""


NOTHING = Spent()


@dataclass(frozen=True)
class _Account:
    """A budget for one period."""

    budget: Budget
    period: str
    limit: int
    spent: int
    resets_at: int
    """Unix time in seconds."""


def check(database: peewee.Database, budgets: Iterable[Budget]) -> dict[str, str]:
    """Refuse a request if one of ``budgets`` is used up.

    :returns: the ``x-ratelimit-*-usd`` headers of the answer, for the budget of which the least is left.
    :raises GatewayError: 429 ``insufficient_quota``, with the same headers and ``retry-after``.
    """
    limited = [budget for budget in budgets if budget.is_limited]
    if not limited:
        return {}
    now = int(time.time())
    spent = read(database, [budget.holder_id for budget in limited], now)
    accounts = [one for budget in limited for one in _accounts(budget, spent.get(budget.holder_id, NOTHING), now)]
    scarcest = min(accounts, key=lambda one: one.limit - one.spent)
    used_up = [one for one in accounts if one.spent >= one.limit]
    if not used_up:
        return _headers(scarcest, now)
    last = max(used_up, key=lambda one: one.resets_at)
    headers = {
        **_headers(last, now),
        "retry-after": str(max(1, last.resets_at - now)),
        "x-should-retry": "false",  # the usual SDKs would try again within seconds
    }
    raise GatewayError(429, _message(last), type="insufficient_quota", code="insufficient_quota", headers=headers)


def _accounts(budget: Budget, spent: Spent, now: int) -> Iterator[_Account]:
    if budget.per_day:
        yield _Account(budget, "today", budget.per_day, spent.today, (now // DAY + 1) * DAY)
    if budget.per_month:
        _, next_month = _days_of_month(now)
        yield _Account(budget, "this month", budget.per_month, spent.this_month, next_month * DAY)


def _message(account: _Account) -> str:
    holder = "The group of this API key" if account.budget.is_group else "This API key"
    spent, limit = format_usd(account.spent), format_usd(account.limit)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(account.resets_at))
    return f"Budget used up: {holder} has spent {spent} of {limit} USD {account.period}. It begins anew at {when} UTC."


def _headers(account: _Account, now: int) -> dict[str, str]:
    return {
        "x-ratelimit-limit-usd": format_usd(account.limit),
        "x-ratelimit-remaining-usd": format_usd(max(0, account.limit - account.spent)),
        "x-ratelimit-reset-usd": format_duration((account.resets_at - now) * 1_000_000),
    }


def format_usd(billionths: int) -> str:
    """Format an amount: with cents, and with up to six digits below one USD."""
    if billionths >= BILLION:
        return f"{billionths / BILLION:.2f}"
    whole, _, fraction = f"{billionths / BILLION:.6f}".rstrip("0").partition(".")
    return f"{whole}.{fraction:0<2}"


def _days_of_month(now: int) -> tuple[int, int]:
    """Return the first day of the month, and that of the next one, in days since 1970-01-01."""
    first = datetime.datetime.fromtimestamp(now, datetime.UTC).date().replace(day=1)
    return (first - EPOCH).days, ((first + datetime.timedelta(days=31)).replace(day=1) - EPOCH).days


# ------------------------------------------------------------------------------------------------------------- reading
def read(database: peewee.Database, holders: Sequence[str], now: int | None = None) -> dict[str, Spent]:
    """Return what keys and groups have spent, by id; without those that have spent nothing this month.

    :param now: Unix time in seconds; None: the current time.
    """
    if not holders:
        return {}
    now = int(time.time()) if now is None else now
    first, next_month = _days_of_month(now)
    rows = select(
        database,
        "SELECT holder_id, SUM(CASE WHEN day = ? THEN spent ELSE 0 END), SUM(spent), SUM(unpriced_requests) "
        f"FROM budget_spending WHERE holder_id IN ({placeholders(holders)}) AND day >= ? AND day < ? "
        "GROUP BY holder_id",
        now // DAY,
        *holders,
        first,
        next_month,
    )
    return {holder: Spent(int(today), int(month), int(unpriced)) for holder, today, month, unpriced in rows}


# ------------------------------------------------------------------------------------------------------------ charging
@dataclass(frozen=True)
class Charge:
    """What a request has cost."""

    usd: float = 0.0
    is_unpriced: bool = False
    """Whether it has cost more, and nobody knows how much."""

    def __bool__(self) -> bool:
        return self.usd > 0 or self.is_unpriced

    def sums(self, budgets: Iterable[Budget]) -> Sums:
        """Return what to add for a request that ends now."""
        day, summands = int(time.time()) // DAY, (to_billionths(self.usd), int(self.is_unpriced))
        return {(budget.holder_id, day): summands for budget in budgets}


FREE = Charge()


def addition(sums: Sums) -> tuple[str, list[Any]]:
    """Return the statement that adds ``sums`` in the database, and its parameters.

    :param sums: at least one, at most ``ROWS_PER_INSERT``.
    """
    rows = sorted((*key, *summands) for key, summands in sums.items())  # sorted: two that lock rows must not deadlock
    statement = (
        "INSERT INTO budget_spending (holder_id, day, spent, unpriced_requests) "
        f"VALUES {', '.join(['(?, ?, ?, ?)'] * len(rows))} ON CONFLICT (holder_id, day) DO UPDATE SET "
        "spent = budget_spending.spent + excluded.spent, "
        "unpriced_requests = budget_spending.unpriced_requests + excluded.unpriced_requests"
    )
    return statement, [value for row in rows for value in row]


@dataclass
class SpendingBuffer:
    """What could not be stored when requests ended, because the database failed. One per process."""

    _sums: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, sums: Sums) -> None:
        """Keep ``sums`` until the next ``drain``. Its caller stores them."""
        with self._lock:
            for key, (spent, unpriced) in sums.items():
                old = self._sums.get(key, (0, 0))
                self._sums[key] = (old[0] + spent, old[1] + unpriced)

    def drain(self) -> Sums:
        """Remove and return everything."""
        with self._lock:
            sums, self._sums = self._sums, {}
            return sums


def store(database: peewee.Database, sums: Sums) -> None:
    """Add ``sums`` within the open transaction."""
    keys = sorted(sums)
    for start in range(0, len(keys), ROWS_PER_INSERT):
        statement, parameters = addition({key: sums[key] for key in keys[start : start + ROWS_PER_INSERT]})
        execute(database, statement, *parameters)


# --------------------------------------------------------------------------------------------------------- maintenance
def begin(database: peewee.Database, key_id: str, key_name: str, created_at: int) -> None:
    """Count for a key that gets its first budget what it has spent this month, within the open transaction.

    The usage says so, which workers store about a second late.

    :param created_at: Unix time in seconds; an older key of the same name may have spent something before.
    """
    first, _ = _days_of_month(int(time.time()))
    since = max(first, created_at // DAY)
    rows = execute(
        database,
        "SELECT day, SUM(cost_usd), SUM(unpriced_requests) FROM usage WHERE api_key = ? AND day >= ? GROUP BY day",
        key_name,
        (EPOCH + datetime.timedelta(days=since)).isoformat(),
    ).fetchall()
    days = {day: (datetime.date.fromisoformat(day) - EPOCH).days for day, *_ in rows}
    execute(database, "DELETE FROM budget_spending WHERE holder_id = ?", key_id)
    store(database, {(key_id, days[day]): (to_billionths(cost), int(unpriced)) for day, cost, unpriced in rows})


def forget(database: peewee.Database) -> None:
    """Delete what is not read any more, within the open transaction: of old days, and of deleted keys and groups."""
    oldest = int(time.time()) // DAY - RETENTION_DAYS
    is_known = "holder_id IN (SELECT id FROM api_keys) OR holder_id IN (SELECT id FROM key_groups)"
    execute(database, f"DELETE FROM {Spending._meta.table_name} WHERE day < ? OR NOT ({is_known})", oldest)
