"""Limits of API keys: counted in the database, so that they hold over all workers and hosts.

Requests per minute follow the generic cell rate algorithm: a key has an allowance of N requests, each of which comes
back 60/N seconds after it was used. All that is kept is the moment at which the whole allowance will be back.

A clock that jumps does not lock a key out: what is kept lies within a known time from now while the clocks are right,
and counts for nothing otherwise.
"""

import math
import time
from dataclasses import dataclass, replace

import peewee

from floway_core.contexts import ApiKey, Limits
from floway_core.errors import GatewayError
from floway_core.storage.db import execute, lock_row, placeholders, transaction

SECOND = 1_000_000
"""In microseconds, the unit of all times that carry no other."""
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND

SLACK = 60
"""Seconds by which the clocks of hosts may differ before a limit is held less strictly."""

TERM = 60
"""Seconds for which a request still counts as running when its worker gives no sign of life."""

ABANDONED = 600
"""Seconds after which a lapsed lease is removed. Until then a worker that was only held up can renew it."""


@dataclass(frozen=True)
class _Use:
    """What a key has used of its limits."""

    now: int
    whole_at: int
    """When the whole allowance of requests will be back; not before ``now``."""
    tokens: int
    """Of this day."""
    running: int
    """Requests, this one not counted; 0 if they are not limited."""


def admit(database: peewee.Database, key: ApiKey, request_id: str) -> dict[str, str]:
    """Let a request of a key with limits in, and count it. One that is refused is not counted.

    If running requests are limited, the key holds a lease from now on, which its worker has to ``renew`` and ``leave``.

    :returns: the ``x-ratelimit-*`` headers of the answer.
    :raises GatewayError: 429 ``rate_limit_exceeded``, with those and ``retry-after``.
    :raises peewee.IntegrityError: the key has been deleted meanwhile.
    """
    limits = key.limits
    with transaction(database):
        if limits.concurrent_requests:
            # First of all: this waits for whoever deletes the key, and who would else wait for us, too.
            lease = "INSERT INTO api_key_leases (id, api_key_id, expires_at) VALUES (?, ?, ?)"
            execute(database, lease, request_id, key.id, int(time.time()) + TERM)
        use = _locked_use(database, key, request_id)
        told = _told_refusal(limits, use)
        if told:
            sentence, wait = told
            seconds = max(1, math.ceil(wait / SECOND))
            headers = {**_headers(limits, use), "retry-after": str(seconds)}
            raise GatewayError(
                429,
                f"Rate limit reached: {sentence}",
                type="rate_limit_error",
                code="rate_limit_exceeded",
                headers=headers,
            )
        if limits.requests_per_minute:
            use = replace(use, whole_at=use.whole_at + MINUTE // limits.requests_per_minute)
            execute(database, "UPDATE api_key_uses SET whole_at = ? WHERE api_key_id = ?", use.whole_at, key.id)
    return _headers(limits, use)


def renew(database: peewee.Database, request_ids: list[str]) -> None:
    """Let the leases of running requests last for another term."""
    until = int(time.time()) + TERM
    named = placeholders(request_ids)
    if database.for_update:  # one that is held is being deleted, or is renewed the next time
        named = f"SELECT id FROM api_key_leases WHERE id IN ({named}) FOR UPDATE SKIP LOCKED"
    with transaction(database):
        execute(database, f"UPDATE api_key_leases SET expires_at = ? WHERE id IN ({named})", until, *request_ids)


def release(database: peewee.Database, key: ApiKey, request_id: str, tokens: int) -> None:
    """The request has ended: give its lease back, and count the tokens that it used."""
    counts, leased = key.limits.tokens_per_day and tokens, key.limits.concurrent_requests
    if not counts and not leased:
        return
    with transaction(database):
        lock_row(database, "api_keys", key.id)
        if counts:
            today = _now() // DAY
            added = "tokens = CASE WHEN day = ? THEN tokens + ? ELSE ? END, day = ?"
            changed = f"UPDATE api_key_uses SET {added} WHERE api_key_id = ?"
            execute(database, changed, today, tokens, tokens, today, key.id)
        if leased:
            execute(database, "DELETE FROM api_key_leases WHERE id = ?", request_id)


def _locked_use(database: peewee.Database, key: ApiKey, request_id: str) -> _Use:
    """What the key has used. Nobody else lets a request of it in until the transaction ends."""
    cursor = execute(
        database,
        "INSERT INTO api_key_uses (api_key_id, whole_at, day, tokens) VALUES (?, 0, 0, 0) "
        "ON CONFLICT (api_key_id) DO UPDATE SET api_key_id = excluded.api_key_id RETURNING whole_at, day, tokens",
        key.id,
    )
    ((whole_at, day, tokens),) = cursor.fetchall()
    now = _now()  # no earlier: it may have taken a while to get the lock
    possible = whole_at <= now + MINUTE + SLACK * SECOND
    return _Use(
        now=now,
        whole_at=max(whole_at, now) if possible else now,
        tokens=tokens if day == now // DAY else 0,
        running=_running(database, key, request_id, now // SECOND) if key.limits.concurrent_requests else 0,
    )


def _running(database: peewee.Database, key: ApiKey, request_id: str, now: int) -> int:
    """How many requests of the key run beside this one. ``now`` is in seconds."""
    old = "DELETE FROM api_key_leases WHERE api_key_id = ? AND (expires_at < ? OR expires_at > ?)"
    execute(database, old, key.id, now - ABANDONED, now + ABANDONED)
    others = (
        "SELECT COUNT(*) FROM api_key_leases WHERE api_key_id = ? AND id <> ? AND expires_at > ? AND expires_at <= ?"
    )
    return execute(database, others, key.id, request_id, now, now + TERM + SLACK).fetchone()[0]


def _told_refusal(limits: Limits, use: _Use) -> tuple[str, int] | None:
    """Why the request is not let in, and after what time another may be; None if it is."""
    if limits.tokens_per_day and use.tokens >= limits.tokens_per_day:
        wait = _until_midnight(use)
        return f"{limits.tokens_per_day} tokens per day (UTC). Please try again in {_duration(wait)}.", wait
    if limits.requests_per_minute and not _requests_left(limits.requests_per_minute, use):
        allowance = limits.requests_per_minute
        wait = use.whole_at - (allowance - 1) * (MINUTE // allowance) - use.now
        return f"{allowance} requests per minute. Please try again in {_duration(wait)}.", wait
    if limits.concurrent_requests and use.running >= limits.concurrent_requests:
        requests = "request" if limits.concurrent_requests == 1 else "requests"
        return (
            f"{limits.concurrent_requests} {requests} at a time. Please try again when one of them has ended.",
            SECOND,
        )
    return None


def _headers(limits: Limits, use: _Use) -> dict[str, str]:
    """What OpenAI's clients look for."""
    headers = {}
    if limits.requests_per_minute:
        headers["x-ratelimit-limit-requests"] = str(limits.requests_per_minute)
        headers["x-ratelimit-remaining-requests"] = str(_requests_left(limits.requests_per_minute, use))
        headers["x-ratelimit-reset-requests"] = _duration(use.whole_at - use.now)
    if limits.tokens_per_day:
        headers["x-ratelimit-limit-tokens"] = str(limits.tokens_per_day)
        headers["x-ratelimit-remaining-tokens"] = str(max(0, limits.tokens_per_day - use.tokens))
        headers["x-ratelimit-reset-tokens"] = _duration(_until_midnight(use))
    return headers


def _requests_left(allowance: int, use: _Use) -> int:
    step = MINUTE // allowance
    return max(0, (use.now + allowance * step - use.whole_at) // step)


def _until_midnight(use: _Use) -> int:
    return DAY - use.now % DAY


def _duration(microseconds: int) -> str:
    """As OpenAI writes it: ``20ms``, ``1.5s``, ``6m0s``, ``13h4m12s``. Rounded up: waiting as long is enough."""
    milliseconds = math.ceil(microseconds / 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    seconds = f"{milliseconds / 1000:g}s"
    if minutes == 0:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _now() -> int:
    return int(time.time() * SECOND)
