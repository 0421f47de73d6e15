"""Usage: what each API key has used of each model of each upstream, day by day, and what that costs.

Requests only add to sums in memory; a thread adds those to the database now and then. Names stand for themselves here,
so that the rows outlive keys and upstreams.
"""

import datetime
import functools
import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import peewee

from floway_core.protocol.usage import Tokens
from floway_core.storage import last_use
from floway_core.storage.db import execute, select, transaction
from floway_core.storage.last_use import LastUseBuffer

log = logging.getLogger("floway.usage")

FLUSH_INTERVAL = 1.0
"""Seconds between two transactions that add to the database; what a process that is killed may lose."""

DAY = 86_400
"""Seconds."""

ROWS_PER_INSERT = 100
LONGEST_NAME = 200
"""Characters of a name that are kept."""

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
"""What usage can be told by, and the column."""
DEFAULT_GROUPS = ("key", "model")

NOBODY = "-"
"""Stands for the model and the upstream of requests that did not come as far as one."""


@dataclass
class UsageBuffer:
    """Sums that are not in the database yet. One per process; shared by all threads.

    They do not grow with the number of requests, so that they can wait for a database that is away.
    """

    last_use: LastUseBuffer = field(default_factory=LastUseBuffer)
    """What is stored together with the sums."""
    _sums: dict[tuple[int, str, str, str], list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _flushing: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, api_key: str, model: str, upstream: str, tokens: Tokens, cost_usd: float | None, failed: bool
    ) -> None:
        """Add one request that has ended just now.

        :param cost_usd: None when the price is not known.
        """
        key = (int(time.time()) // DAY, _storable(api_key), _storable(model), _storable(upstream))
        unpriced = cost_usd is None and any(tokens)
        self._merge({key: [1, int(failed), *tokens, cost_usd or 0.0, int(unpriced)]})

    def _merge(self, sums: dict[tuple[int, str, str, str], list[float]]) -> None:
        with self._lock:
            for key, added in sums.items():
                old = self._sums.get(key)
                self._sums[key] = added if old is None else [a + b for a, b in zip(old, added, strict=True)]

    def flush(self, database: peewee.Database) -> bool:
        """Add everything to the database in one transaction, or nothing, which then waits for the next time.

        :returns: whether nothing is left to wait.
        """
        with self._flushing:  # at the end of the process, wait for the thread: what it has taken is nowhere else
            with self._lock:
                sums, self._sums = self._sums, {}
            moments = self.last_use.take()
            if not sums and not moments:
                return True
            try:
                with transaction(database):
                    _store(database, sums)
                    last_use.store(database, moments)
            except (peewee.PeeweeException, ValueError) as error:  # ValueError: the pool has no connection left
                self._merge(sums)
                self.last_use.put_back(moments)
                log.debug("Usage is not stored yet: %s", error)
                return False
            return True


def _store(database: peewee.Database, sums: dict[tuple[int, str, str, str], list[float]]) -> None:
    added = ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in SUMS)
    row = f"({', '.join('?' * len(KEY + SUMS))})"
    rows = sorted(((_date(day), *names), values) for (day, *names), values in sums.items())
    for start in range(0, len(rows), ROWS_PER_INSERT):  # in order: two who lock rows must not wait for each other
        part = rows[start : start + ROWS_PER_INSERT]
        execute(
            database,
            f"INSERT INTO usage ({', '.join(KEY + SUMS)}) VALUES {', '.join([row] * len(part))} "
            f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {added}",
            *(value for key, values in part for value in (*key, *values)),
        )


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))


@functools.lru_cache(maxsize=1024)
def _storable(name: str) -> str:
    """``name`` as a text column can hold it: an upstream may call its models anything."""
    return name.encode(errors="replace").decode().replace("\0", "")[:LONGEST_NAME]


def start_flushing(pending: UsageBuffer, database: peewee.Database) -> threading.Thread:
    """Flush now and then in a thread that ends with the process."""
    thread = threading.Thread(target=_flush_forever, args=(pending, database), name="usage", daemon=True)
    thread.start()
    return thread


def _flush_forever(pending: UsageBuffer, database: peewee.Database) -> None:
    stored = True
    while True:
        time.sleep(FLUSH_INTERVAL)
        before, stored = stored, pending.flush(database)
        if stored != before:
            log.warning("Usage %s", "is stored again" if stored else "cannot be stored, and waits in memory")


# ------------------------------------------------------------------------------------------------------------ reading
@dataclass(frozen=True)
class Usage:
    """What was used by one group of requests."""

    group: Mapping[str, str]
    """What they have in common: names in ``GROUPS`` and their values."""
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
    """Requests that used tokens whose price is not known."""

    @property
    def cost_usd(self) -> float | None:
        """None when the price of any of it is not known."""
        return None if self.unpriced_requests else self.known_cost_usd

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON. Costs are rounded: what is added up is not exact to the last digit."""
        cost = None if self.cost_usd is None else round(self.cost_usd, 9)
        counts = {name: vars(self)[name] for name in SUM_FIELDS}
        return {**self.group, **counts, "known_cost_usd": round(self.known_cost_usd, 9), "cost_usd": cost}


SUM_FIELDS = tuple(column.name for column in fields(Usage) if column.name != "group")


def read(database: peewee.Database, by: Sequence[str], since: datetime.date | None = None) -> list[Usage]:
    """The usage from ``since`` (UTC) on, in groups.

    :param by: some of ``GROUPS``, at least one.
    """
    columns = ", ".join(GROUPS[name] for name in by)
    sums = ", ".join(f"SUM({name})" for name in SUMS)
    sql = f"SELECT {columns}, {sums} FROM usage WHERE day >= ? GROUP BY {columns} ORDER BY {columns}"
    found = []
    for row in select(database, sql, str(since or "")):
        *counts, cost, unpriced = row[len(by) :]
        group = dict(zip(by, row, strict=False))
        found.append(Usage(group, *map(int, counts), float(cost), int(unpriced)))
    return found


def parse_since(text: str) -> datetime.date:
    """A date such as ``2026-01-31``, or that of some days ago (UTC), such as ``7d``.

    :raises ValueError: with what is expected instead.
    """
    try:
        if re.fullmatch(r"\d{1,5}d", text):
            return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=int(text[:-1]))
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ValueError("a date such as 2026-01-31, or a number of days such as 7d") from None
