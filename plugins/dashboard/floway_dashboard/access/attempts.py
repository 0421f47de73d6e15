"""A rate limit for attempts to sign in, over all workers and hosts. No thread waits.

There is a token bucket for each address, and one for all addresses together.
"""

import ipaddress
import math
import time
from dataclasses import dataclass

import peewee

from floway_core.storage.db import execute, select, transaction, write

ALL_ADDRESSES = "*"


@dataclass(frozen=True)
class Rate:
    """The rate of a token bucket."""

    interval: float
    """Seconds until one used attempt is available again."""
    burst: int
    """The largest number of available attempts."""


PER_ADDRESS = Rate(interval=20, burst=5)
FOR_ALL = Rate(interval=1, burst=60)


def count_attempt(database: peewee.Database, address: str) -> int:
    """Count an attempt from ``address``.

    :returns: 0 if it may be made; otherwise the seconds to wait.
    """
    return _take(database, ALL_ADDRESSES, FOR_ALL) or _take(database, _network(address), PER_ADDRESS)


def clear_attempts(database: peewee.Database, address: str) -> None:
    """Delete the attempts from ``address``, after the right password, and all that no longer count."""
    with transaction(database):
        statement = "DELETE FROM dashboard_attempts WHERE source = ? OR free_at <= ?"
        execute(database, statement, _network(address), _now())


def _take(database: peewee.Database, source: str, rate: Rate) -> int:
    now, interval = _now(), int(rate.interval * 1000)
    latest = now + interval * (rate.burst - 1)
    updated = write(
        database,
        "INSERT INTO dashboard_attempts (source, free_at) VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET free_at = "
        "CASE WHEN dashboard_attempts.free_at > ? THEN dashboard_attempts.free_at ELSE ? END + ? "
        "WHERE dashboard_attempts.free_at <= ? RETURNING free_at",
        *(source, now + interval, now, now, interval, latest),
    )
    if updated:
        return 0
    rows = select(database, "SELECT free_at FROM dashboard_attempts WHERE source = ?", source)
    free_at = int(rows[0][0]) if rows else now
    return max(1, math.ceil((free_at - latest) / 1000))


def _network(address: str) -> str:
    """Return the source that an address counts for: itself, or its /64 network with IPv6, which one customer has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _now() -> int:
    """Unix time, milliseconds."""
    return int(time.time() * 1000)
