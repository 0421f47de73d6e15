"""Limits of API keys, counted in the database so that they hold over all workers and hosts.

Requests per minute follow the generic cell rate algorithm: a key has an allowance of N requests, and a used request
returns to it 60/N seconds later. The database stores only the time at which the allowance will be complete
(``whole_at``).

A clock that jumps does not lock a key out: a stored time that is further away than correct clocks allow is ignored.
"""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import peewee

from floway_core.contexts import ApiKey, Limits
from floway_core.errors import GatewayError
from floway_core.protocol.durations import format_duration
from floway_core.storage import budgets
from floway_core.storage.budgets import FREE, Charge
from floway_core.storage.db import execute, lock_row, placeholders, transaction, write

SECOND = 1_000_000
"""In microseconds, the unit of all times in this module that do not name another one."""
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

CLOCK_SKEW_SECONDS = 60
"""Beyond this difference between the clocks of hosts, a limit is less strict."""

LEASE_SECONDS = 60
"""How long a request counts as running after the last renewal of its lease."""

KEY_LEASES = "api_key_leases"
"""The table of the leases of requests that count against a limit."""

ABANDONED_AFTER_SECONDS = 600
"""How long an expired lease is stored. Until then, a delayed worker can still renew it."""


@dataclass(frozen=True)
class _Consumption:
    """The used part of the limits of a key."""

    now: int
    whole_at: int
    """When the allowance of requests will be complete; not before ``now``."""
    tokens: int
    """Tokens of this day."""
    running: int
    """Running requests without this one; 0 if they are not limited."""


def admit(database: peewee.Database, key: ApiKey, request_id: str) -> dict[str, str]:
    """Admit a request of a key with limits, and count it. A refused request is not counted.

    If concurrent requests are limited, the request now holds a lease, which its worker must ``renew`` and ``release``.

    :returns: the ``x-ratelimit-*`` headers of the answer.
    :raises GatewayError: 429 ``rate_limit_exceeded``, with the same headers and ``retry-after``.
    :raises peewee.IntegrityError: the key has been deleted meanwhile.
    """
    limits = key.limits
    with transaction(database):
        if limits.concurrent_requests:
            # The first statement: it waits for a concurrent deletion of the key, which would otherwise wait for this
            # transaction as well (a deadlock).
            lease = "INSERT INTO api_key_leases (id, api_key_id, expires_at) VALUES (?, ?, ?)"
            execute(database, lease, request_id, key.id, int(time.time()) + LEASE_SECONDS)
        use = _lock_consumption(database, key, request_id)
        if refusal := _refusal(limits, use):
            reason, wait = refusal
            seconds = max(1, math.ceil(wait / SECOND))
            headers = {**_headers(limits, use), "retry-after": str(seconds)}
            raise GatewayError(
                429,
                f"Rate limit reached: {reason}",
                type="rate_limit_error",
                code="rate_limit_exceeded",
                headers=headers,
            )
        if limits.requests_per_minute:
            use = replace(use, whole_at=use.whole_at + MINUTE // limits.requests_per_minute)
            execute(database, "UPDATE api_key_uses SET whole_at = ? WHERE api_key_id = ?", use.whole_at, key.id)
    return _headers(limits, use)


def renew(database: peewee.Database, ids: list[str], table: str = KEY_LEASES, until: str = "") -> None:
    """Extend leases.

    :param ids: of the leases in ``table``, such as ids of running requests.
    :param until: their new end in SQL; by default ``LEASE_SECONDS`` from now.
    """
    until = until or str(int(time.time()) + LEASE_SECONDS)
    with transaction(database):
        execute(
            database, f"UPDATE {table} SET expires_at = {until} WHERE id IN ({_unlocked(database, ids, table)})", *ids
        )


def delete_leases(database: peewee.Database, ids: list[str], table: str = KEY_LEASES) -> None:
    """Delete leases, as far as they exist.

    :param ids: as in ``renew``.
    """
    with transaction(database):
        execute(database, f"DELETE FROM {table} WHERE id IN ({_unlocked(database, ids, table)})", *ids)


def _unlocked(database: peewee.Database, ids: list[str], table: str) -> str:
    """Return the list for ``id IN (...)`` with a parameter for each lease.

    A locked lease is being deleted with its key, or is renewed next time.
    """
    named = placeholders(ids)
    return f"SELECT id FROM {table} WHERE id IN ({named}) FOR UPDATE SKIP LOCKED" if database.for_update else named


def release(database: peewee.Database, key: ApiKey, request_id: str, tokens: int, charge: Charge = FREE) -> None:
    """End a request: delete its lease, count its tokens, and charge the key's budgets."""
    counts_tokens, has_lease = key.limits.tokens_per_day and tokens, key.limits.concurrent_requests
    sums = charge.sums(key.budgets) if charge else {}
    if not counts_tokens and not has_lease:
        if sums:
            statement, parameters = budgets.addition(sums)
            write(database, f"{statement} RETURNING 1", *parameters)
        return
    with transaction(database):
        lock_row(database, "api_keys", key.id)
        if counts_tokens:
            _count_tokens(database, key.id, tokens)
        if has_lease:
            execute(database, "DELETE FROM api_key_leases WHERE id = ?", request_id)
        budgets.store(database, sums)


def _count_tokens(database: peewee.Database, key_id: str, tokens: int) -> None:
    today = _now() // DAY
    changes = "tokens = CASE WHEN day = ? THEN tokens + ? ELSE ? END, day = ?"
    update = f"UPDATE api_key_uses SET {changes} WHERE api_key_id = ?"
    execute(database, update, today, tokens, tokens, today, key_id)


@dataclass
class TokenBuffer:
    """Tokens that could not be counted when requests ended, because the database failed. One per process."""

    _tokens: dict[str, int] = field(default_factory=dict)
    """By id of the key."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, tokens: Mapping[str, int]) -> None:
        """Keep ``tokens`` until the next ``drain``. Its caller stores them."""
        with self._lock:
            for key_id, count in tokens.items():
                self._tokens[key_id] = self._tokens.get(key_id, 0) + count

    def drain(self) -> dict[str, int]:
        """Remove and return everything."""
        with self._lock:
            tokens, self._tokens = self._tokens, {}
            return tokens


def store_tokens(database: peewee.Database, tokens: Mapping[str, int]) -> None:
    """Count tokens within the open transaction. They count on the day on which they are stored."""
    for key_id, count in sorted(tokens.items()):  # sorted: two that lock rows must not deadlock
        lock_row(database, "api_keys", key_id)
        _count_tokens(database, key_id, count)


def _lock_consumption(database: peewee.Database, key: ApiKey, request_id: str) -> _Consumption:
    """Read the used part of the limits, and lock the row: no other request of the key is admitted meanwhile."""
    cursor = execute(
        database,
        "INSERT INTO api_key_uses (api_key_id, whole_at, day, tokens) VALUES (?, 0, 0, 0) "
        "ON CONFLICT (api_key_id) DO UPDATE SET api_key_id = excluded.api_key_id RETURNING whole_at, day, tokens",
        key.id,
    )
    ((whole_at, day, tokens),) = cursor.fetchall()
    now = _now()  # read the clock after waiting for the lock
    is_plausible = whole_at <= now + MINUTE + CLOCK_SKEW_SECONDS * SECOND
    return _Consumption(
        now=now,
        whole_at=max(whole_at, now) if is_plausible else now,
        tokens=tokens if day == now // DAY else 0,
        running=_count_running(database, key, request_id, now // SECOND) if key.limits.concurrent_requests else 0,
    )


def _count_running(database: peewee.Database, key: ApiKey, request_id: str, now: int) -> int:
    """Count the other running requests of the key.

    :param now: Unix time in seconds.
    """
    abandoned = "DELETE FROM api_key_leases WHERE api_key_id = ? AND (expires_at < ? OR expires_at > ?)"
    execute(database, abandoned, key.id, now - ABANDONED_AFTER_SECONDS, now + ABANDONED_AFTER_SECONDS)
    others = (
        "SELECT COUNT(*) FROM api_key_leases WHERE api_key_id = ? AND id <> ? AND expires_at > ? AND expires_at <= ?"
    )
    cursor = execute(database, others, key.id, request_id, now, now + LEASE_SECONDS + CLOCK_SKEW_SECONDS)
    count: int = cursor.fetchone()[0]
    return count


def _refusal(limits: Limits, use: _Consumption) -> tuple[str, int] | None:
    """Return the reason for a refusal and the time to wait; None to admit the request."""
    if limits.tokens_per_day and use.tokens >= limits.tokens_per_day:
        wait = _until_midnight(use)
        return f"{limits.tokens_per_day} tokens per day (UTC). Please try again in {format_duration(wait)}.", wait
    if limits.requests_per_minute and not _requests_left(limits.requests_per_minute, use):
        allowance = limits.requests_per_minute
        wait = use.whole_at - (allowance - 1) * (MINUTE // allowance) - use.now
        return f"{allowance} requests per minute. Please try again in {format_duration(wait)}.", wait
    if limits.concurrent_requests and use.running >= limits.concurrent_requests:
        requests = "request" if limits.concurrent_requests == 1 else "requests"
        return (
            f"{limits.concurrent_requests} {requests} at a time. Please try again when one of them has ended.",
            SECOND,
        )
    return None


def _headers(limits: Limits, use: _Consumption) -> dict[str, str]:
    """Return the headers with the limits, in OpenAI's form."""
    headers = {}
    if limits.requests_per_minute:
        headers["x-ratelimit-limit-requests"] = str(limits.requests_per_minute)
        headers["x-ratelimit-remaining-requests"] = str(_requests_left(limits.requests_per_minute, use))
        headers["x-ratelimit-reset-requests"] = format_duration(use.whole_at - use.now)
    if limits.tokens_per_day:
        headers["x-ratelimit-limit-tokens"] = str(limits.tokens_per_day)
        headers["x-ratelimit-remaining-tokens"] = str(max(0, limits.tokens_per_day - use.tokens))
        headers["x-ratelimit-reset-tokens"] = format_duration(_until_midnight(use))
    return headers


def _requests_left(allowance: int, use: _Consumption) -> int:
    step = MINUTE // allowance
    return max(0, (use.now + allowance * step - use.whole_at) // step)


def _until_midnight(use: _Consumption) -> int:
    return DAY - use.now % DAY


def _now() -> int:
    return int(time.time() * SECOND)
