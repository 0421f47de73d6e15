"""Context windows, ``<thread>:<number>``: parsing numbers, and reserving new ones.

A thread begins in window 0. A compaction begins a new window, and so does each fork of the conversation. One counter
per conversation hands out all new numbers, so that two branches never share a window. The key of the counter is the id
of the conversation's first response.
"""

import functools
import hashlib
import re
import time

import peewee

from floway_codex.identity import uuids
from floway_core.storage.db import execute, transaction

COUNTER_LIFETIME_SECONDS = 366 * 86_400
"""Seconds after its last use when the counter of a conversation is deleted."""

CLAIM_NUMBER = """
INSERT INTO codex_windows (first_response_id, api_key_id, last_number, used_at) VALUES (?, ?, ?, ?)
ON CONFLICT (first_response_id) DO UPDATE SET
    last_number = CASE WHEN codex_windows.last_number < ? THEN ? ELSE codex_windows.last_number END + 1, used_at = ?
RETURNING last_number
"""
DELETE_EXPIRED = "DELETE FROM codex_windows WHERE used_at < ?"


def claim_window_number(database: peewee.Database, api_key_id: str, first_response_id: str, above: int) -> int:
    """Reserve a window number that the conversation has not used yet, as a rule ``above + 1``.

    No two callers get the same number. Inside a transaction, the reservation is part of it.
    """
    now = int(time.time())
    with transaction(database):
        execute(database, DELETE_EXPIRED, now - COUNTER_LIFETIME_SECONDS)
        cursor = execute(database, CLAIM_NUMBER, first_response_id, api_key_id, above + 1, now, above, above, now)
        number: int = cursor.fetchall()[0][0]
    return number


def parse_window_number(window: str, thread: str) -> int | None:
    """The number in ``<thread>:<number>``; None if ``window`` is not a window of ``thread``."""
    number = window.removeprefix(f"{thread}:")
    return int(number) if number != window and re.fullmatch(r"0|[1-9]\d{0,14}", number) else None


@functools.lru_cache(maxsize=1024)
def derive_context_window_id(window: str, thread: str) -> str | None:
    """Derive the id of a window's context. It is a UUID of the same version as the thread's id.

    The CLI (0.169) makes a random UUIDv7 a few milliseconds after the thread's, and uses it as long as the window.

    :returns: None if the thread's id is not a UUID.
    """
    parsed = uuids.parse_uuid(thread)
    if parsed is None:
        return None
    thread_digits, version = parsed
    digits = hashlib.sha256(window.encode()).hexdigest()
    timestamp = thread_digits[:12] if version == 7 else digits[-12:]
    return uuids.format_uuid(timestamp + digits, version or 4)
