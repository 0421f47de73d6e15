"""Usage: requests, tokens and cost by day, API key, model and upstream.

Requests only add to sums in memory; a thread regularly adds these to the database. Rows contain names, not ids, so that
they outlive keys and upstreams.
"""

import datetime
import functools
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import peewee

from floway_core.protocol.usage import Tokens
from floway_core.storage import budgets, last_use, limits
from floway_core.storage.budgets import SpendingBuffer
from floway_core.storage.db import DATABASE_ERRORS, execute, placeholders, select, storable_text, transaction
from floway_core.storage.last_use import LastUseBuffer
from floway_core.storage.limits import TokenBuffer
from floway_core.storage.periodic import start_periodic

log = logging.getLogger("floway.usage")

FLUSH_INTERVAL_SECONDS = 1.0
"""Time between two transactions. A process that is killed loses at most the usage of this time."""

DAY = 86_400
"""Seconds."""

ROWS_PER_INSERT = 100
MAX_NAME_LENGTH = 200
"""Characters. Longer names are cut off."""

KEY = ("day", "api_key", "model", "upstream")
SUMS = (
    "requests",
    "failed_requests",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_requests",
)
GROUPS = {"day": "day", "key": "api_key", "model": "model", "upstream": "upstream"}
"""The column of each name that usage can be grouped by."""
DEFAULT_GROUPS = ("key", "model")

END_OF_DAYS = "9999"
"""Comes after every day."""

NOBODY = "-"
"""The model and the upstream of requests that ended before they had one."""


@dataclass
class UsageBuffer:
    """Sums that are not in the database yet. One per process; shared by all threads.

    The size does not depend on the number of requests, so that the sums can wait for a database that is down.
    """

    last_use: LastUseBuffer = field(default_factory=LastUseBuffer)
    """Stored together with the sums."""
    spending: SpendingBuffer = field(default_factory=SpendingBuffer)
    """Stored together with the sums."""
    tokens: TokenBuffer = field(default_factory=TokenBuffer)
    """Stored together with the sums."""
    _sums: dict[tuple[int, str, str, str], list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _flushing: threading.Lock = field(default_factory=threading.Lock)
    _is_waiting: bool = False
    """Whether the last flush has failed."""

    def add(
        self, api_key: str, model: str, upstream: str, tokens: Tokens, cost_usd: float | None, failed: bool
    ) -> None:
        """Add a request that has just ended.

        :param api_key: name of the key.
        :param upstream: name of the upstream.
        :param cost_usd: None if the price is unknown.
        """
        key = (int(time.time()) // DAY, _storable(api_key), _storable(model), _storable(upstream))
        unpriced = cost_usd is None and any(tokens)
        self._merge({key: [1, int(failed), *tokens, cost_usd or 0.0, int(unpriced)]})

    def _merge(self, sums: dict[tuple[int, str, str, str], list[float]]) -> None:
        with self._lock:
            for key, summands in sums.items():
                old = self._sums.get(key)
                self._sums[key] = summands if old is None else [a + b for a, b in zip(old, summands, strict=True)]

    def flush(self, database: peewee.Database) -> bool:
        """Move everything to the database in one transaction. If that fails, everything stays in the buffer.

        :returns: whether it succeeded.
        """
        with self._flushing:  # the flush at exit waits for the thread, which may have drained the buffer
            with self._lock:
                sums, self._sums = self._sums, {}
            uses, tokens, spending = self.last_use.drain(), self.tokens.drain(), self.spending.drain()
            if not any((sums, uses, tokens, spending)):
                return True
            try:
                with transaction(database):
                    _store(database, sums)
                    last_use.store(database, uses)
                    limits.store_tokens(database, tokens)
                    budgets.store(database, spending)
            except DATABASE_ERRORS as error:
                self._merge(sums)
                self.last_use.restore(uses)
                self.tokens.add(tokens)
                self.spending.add(spending)
                if not self._is_waiting:
                    log.warning("Usage cannot be stored, and waits in memory: %s", error)
                self._is_waiting = True
                return False
            if self._is_waiting:
                log.warning("Usage is stored again")
            self._is_waiting = False
            return True

    def flush_finally(self, database: peewee.Database) -> None:
        """As ``flush``, when the process ends. What cannot be stored is lost."""
        if not self.flush(database):
            count = sum(int(sums[0]) for sums in self._sums.values())
            log.error("The usage of %d requests is lost, because the process ends and the database fails", count)


def _store(database: peewee.Database, sums: dict[tuple[int, str, str, str], list[float]]) -> None:
    changes = ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in SUMS)
    row = f"({placeholders(KEY + SUMS)})"
    # sorted: two that lock rows must not deadlock
    rows = sorted(((_date(day), *names), values) for (day, *names), values in sums.items())
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        execute(
            database,
            f"INSERT INTO usage ({', '.join(KEY + SUMS)}) VALUES {', '.join([row] * len(part))} "
            f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {changes}",
            *(value for key, values in part for value in (*key, *values)),
        )


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))


@functools.lru_cache(maxsize=1024)
def _storable(name: str) -> str:
    """Return ``name`` as it is stored: upstreams choose the names of their models freely."""
    return storable_text(name, MAX_NAME_LENGTH)


def start_flushing(buffer: UsageBuffer, database: peewee.Database) -> None:
    """Flush ``buffer`` regularly, in a thread that ends with the process."""
    start_periodic("usage", lambda: buffer.flush(database), FLUSH_INTERVAL_SECONDS)


# ------------------------------------------------------------------------------------------------------------ reading
@dataclass(frozen=True)
class Usage:
    """The usage of one group of requests."""

    group: Mapping[str, str]
    """Their common values, by names in ``GROUPS``."""
    requests: int
    failed_requests: int
    input_tokens: int
    cached_tokens: int
    """Part of the input."""
    output_tokens: int
    reasoning_tokens: int
    """Part of the output."""
    known_cost_usd: float
    unpriced_requests: int
    """Requests that used tokens whose price is unknown."""

    @property
    def cost_usd(self) -> float | None:
        """The cost; None if the price of any of it is unknown."""
        return None if self.unpriced_requests else self.known_cost_usd

    def as_dict(self) -> dict[str, Any]:
        """Return all values, for JSON. Costs are rounded, because sums of floats are not exact to the last digit."""
        cost = None if self.cost_usd is None else round(self.cost_usd, 9)
        counts = {name: vars(self)[name] for name in SUM_FIELDS}
        return {**self.group, **counts, "known_cost_usd": round(self.known_cost_usd, 9), "cost_usd": cost}


SUM_FIELDS = tuple(column.name for column in fields(Usage) if column.name != "group")


def read(
    database: peewee.Database,
    by: Sequence[str],
    since: datetime.date | None = None,
    only: Mapping[str, str] = MappingProxyType({}),
    before: datetime.date | None = None,
) -> list[Usage]:
    """Return the usage from the day ``since`` (UTC) on, in groups.

    :param by: names in ``GROUPS``, at least one.
    :param since: None: from the first day on.
    :param only: values that it has to have, by names in ``GROUPS``.
    :param before: the day that does not count any more; None: there is none.
    """
    columns = ", ".join(GROUPS[name] for name in by)
    totals = ", ".join(f"SUM({name})" for name in SUMS)
    conditions = " AND ".join(["day >= ?", "day < ?", *(f"{GROUPS[name]} = ?" for name in only)])
    sql = f"SELECT {columns}, {totals} FROM usage WHERE {conditions} GROUP BY {columns} ORDER BY {columns}"
    usages = []
    for row in select(database, sql, str(since or ""), str(before or END_OF_DAYS), *only.values()):
        group = dict(zip(by, row, strict=False))
        sums = dict(zip(SUM_FIELDS, row[len(by) :], strict=True))
        cost = float(sums.pop("known_cost_usd"))
        counts = {name: int(value) for name, value in sums.items()}  # PostgreSQL sums are decimals
        usages.append(Usage(group, known_cost_usd=cost, **counts))
    return usages


def parse_since(text: str) -> datetime.date:
    """Parse a date such as ``2026-01-31``, or a number of days before today (UTC) such as ``7d``.

    :raises ValueError: describes the expected text.
    """
    try:
        if re.fullmatch(r"\d{1,5}d", text):
            return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=int(text[:-1]))
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ValueError("a date such as 2026-01-31, or a number of days such as 7d") from None
