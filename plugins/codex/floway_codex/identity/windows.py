"""Windows, ``<thread>:<number>``: reading their numbers, and handing out new ones.

A thread begins with number 0 and keeps its number until it is compacted. Where a conversation forks, the thread goes on
in several lines, and each is a window of its own. So that no two lines ever meet, whatever they are compacted or forked
into, new numbers come from one counter per conversation. It is named by the response that the conversation began with.
"""

import hashlib
import re
import time
import uuid

import peewee

from floway_codex.identity import uuids
from floway_core.storage.db import transaction

LIFETIME = 366 * 86_400
"""Seconds after which the counter of a conversation that needed no number is forgotten."""

CLAIM = """
INSERT INTO codex_windows (first_response_id, api_key_id, last_number, used_at) VALUES (?, ?, ?, ?)
ON CONFLICT (first_response_id) DO UPDATE SET
    last_number = CASE WHEN codex_windows.last_number < ? THEN ? ELSE codex_windows.last_number END + 1, used_at = ?
RETURNING last_number
"""
FORGET = "DELETE FROM codex_windows WHERE used_at < ?"


def claim(database: peewee.Database, api_key_id: str, first_response_id: str, above: int) -> int:
    """A number that no window of a conversation has had; usually the one after ``above``. No two callers get the same.

    Inside a transaction it is part of that.
    """
    now = int(time.time())
    with transaction(database):
        _execute(database, FORGET, now - LIFETIME)
        found = _execute(database, CLAIM, first_response_id, api_key_id, above + 1, now, above, above, now).fetchall()
    return found[0][0]


def _execute(database: peewee.Database, sql: str, *parameters: object):
    return database.execute_sql(sql.replace("?", database.param), parameters)


def window_number(window: str, thread: str) -> int | None:
    """The number in ``<thread>:<number>``, or None when ``window`` is no window of ``thread``."""
    number = window.removeprefix(f"{thread}:")
    return int(number) if number != window and re.fullmatch(r"0|[1-9]\d{0,14}", number) else None


def context_window_id(window: str, thread: str) -> str | None:
    """An id for the content of a window: the same for the same window, of the same UUID version as its thread.

    The CLI makes it at random a few milliseconds after the thread (0.169), as UUIDv7, and keeps it as long as the
    window.

    :returns: None when the thread's id is no UUID.
    """
    try:
        made = uuid.UUID(thread)
    except ValueError:
        return None
    digits = hashlib.sha256(window.encode()).hexdigest()
    age = made.hex[:12] if made.version == 7 else digits[-12:]
    return uuids.shaped(age + digits, made.version or 4)
