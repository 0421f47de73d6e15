"""Slowing down whoever guesses passwords, over all workers and hosts, without a thread that waits.

Each address, and all of them together, have a number of attempts that come back one after the other with time.
"""

import ipaddress
import math
import time
from dataclasses import dataclass

import peewee

from floway_core.storage.db import execute, select, transaction, write

EVERYBODY = "*"


@dataclass(frozen=True)
class Rate:
    """How often somebody may try."""

    interval: float
    """Seconds in which one attempt comes back."""
    burst: int
    """Attempts that somebody has who has made none for long."""


PER_ADDRESS = Rate(interval=20, burst=5)
TOGETHER = Rate(interval=1, burst=60)


def begin(database: peewee.Database, address: str) -> int:
    """Count an attempt from ``address``.

    :returns: 0 if it may be made; otherwise the seconds to wait.
    """
    return _take(database, EVERYBODY, TOGETHER) or _take(database, _network(address), PER_ADDRESS)


def forgive(database: peewee.Database, address: str) -> None:
    """Forget the attempts from ``address``, after the right password, and those that do not count any more."""
    with transaction(database):
        gone = "DELETE FROM dashboard_attempts WHERE source = ? OR free_at <= ?"
        execute(database, gone, _network(address), _now())


def _take(database: peewee.Database, source: str, rate: Rate) -> int:
    now, interval = _now(), int(rate.interval * 1000)
    latest = now + interval * (rate.burst - 1)
    taken = write(
        database,
        "INSERT INTO dashboard_attempts (source, free_at) VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET free_at = "
        "CASE WHEN dashboard_attempts.free_at > ? THEN dashboard_attempts.free_at ELSE ? END + ? "
        "WHERE dashboard_attempts.free_at <= ? RETURNING free_at",
        *(source, now + interval, now, now, interval, latest),
    )
    if taken:
        return 0
    rows = select(database, "SELECT free_at FROM dashboard_attempts WHERE source = ?", source)
    free_at = int(rows[0][0]) if rows else now
    return max(1, math.ceil((free_at - latest) / 1000))


def _network(address: str) -> str:
    """Return what counts as one source: an address, or the network that one customer has with IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _now() -> int:
    """Unix time, milliseconds."""
    return int(time.time() * 1000)
