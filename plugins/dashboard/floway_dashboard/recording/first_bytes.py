"""Times to first byte, as daily histograms for each API key, model and upstream.

The usage in core does not contain them. A histogram adds up over workers and days, which a median does not. Each bucket
is about a fifth wider than the one before.
"""

import datetime
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from floway_core.storage.db import execute, placeholders, select

BUCKETS_PER_DOUBLING = 4
RETENTION_DAYS = 100
ROWS_PER_INSERT = 200

ALL, KEY, MODEL, UPSTREAM = "all", "key", "model", "upstream"
"""The dimensions. The only name in ``ALL`` is empty."""

Cell = tuple[str, str, str, int]
"""Dimension, name, day and bucket."""


@dataclass(frozen=True)
class Times:
    """The times to first byte of a group of requests, in seconds, with an error of about a tenth."""

    median: float
    slow: float
    """The 95th percentile."""


def cells(seconds: float, key: str, model: str, upstream: str, day: str) -> tuple[Cell, ...]:
    """Return the cells that a request counts in."""
    bucket = bucket_of(seconds)
    return (
        (ALL, "", day, bucket),
        (KEY, key, day, bucket),
        (MODEL, model, day, bucket),
        (UPSTREAM, upstream, day, bucket),
    )


def bucket_of(seconds: float) -> int:
    """Return the number of the bucket of a time. The bucket 0 ends at a millisecond."""
    return max(0, math.ceil(math.log2(max(seconds, 1e-3) * 1000) * BUCKETS_PER_DOUBLING))


def middle_of(bucket: int) -> float:
    """Return the time in the middle of a bucket, in seconds."""
    return float(2 ** ((bucket - 0.5) / BUCKETS_PER_DOUBLING) / 1000)


def store(database: peewee.Database, counts: Counter[Cell]) -> None:
    """Add counts to the table, in the transaction that is open."""
    rows = sorted(counts.items())  # sorted: two that lock rows must not deadlock
    for start in range(0, len(rows), ROWS_PER_INSERT):
        part = rows[start : start + ROWS_PER_INSERT]
        execute(
            database,
            "INSERT INTO dashboard_first_bytes (dimension, name, day, bucket, requests) "
            f"VALUES {', '.join(['(?, ?, ?, ?, ?)'] * len(part))} ON CONFLICT (dimension, name, day, bucket) "
            "DO UPDATE SET requests = dashboard_first_bytes.requests + excluded.requests",
            *(value for cell, count in part for value in (*cell, count)),
        )


def forget_old(database: peewee.Database, today: datetime.date) -> None:
    """Delete days that no page shows any more, in the transaction that is open."""
    execute(
        database, "DELETE FROM dashboard_first_bytes WHERE day < ?", str(today - datetime.timedelta(RETENTION_DAYS))
    )


def read(database: peewee.Database, dimension: str, names: Collection[str], since: datetime.date) -> dict[str, Times]:
    """Return the times of some names from the day ``since`` on; names without any are left out."""
    if not names:
        return {}
    rows = select(
        database,
        "SELECT name, bucket, SUM(requests) FROM dashboard_first_bytes "
        f"WHERE dimension = ? AND name IN ({placeholders(names)}) AND day >= ? "
        "GROUP BY name, bucket ORDER BY name, bucket",
        *(dimension, *names, str(since)),
    )
    histograms: dict[str, list[tuple[int, int]]] = {}
    for name, bucket, count in rows:
        histograms.setdefault(name, []).append((bucket, int(count)))
    return {
        name: Times(_quantile(histogram, 0.5), _quantile(histogram, 0.95)) for name, histogram in histograms.items()
    }


def _quantile(histogram: Sequence[tuple[int, Any]], share: float) -> float:
    target = share * sum(count for _, count in histogram)
    so_far = 0
    for bucket, count in histogram:
        so_far += count
        if so_far >= target:
            return middle_of(bucket)
    return middle_of(histogram[-1][0])
