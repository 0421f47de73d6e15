"""What happened last: when each API key was used, and when each upstream was tried and how that went.

Requests only note it in memory; what stores the usage stores it as well. Times are known to the minute, so that what
happens often is written once a minute.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import peewee

from floway_core.storage.db import execute

PRECISION = 60
"""Seconds within which the same is not noted again."""

LONGEST_FAILURE = 300

Moment = tuple[int, str]
"""Unix time in seconds, and what went wrong then; empty if nothing did."""

STATEMENTS = {
    "key": "UPDATE api_keys SET last_used_at = ? WHERE name = ? AND (last_used_at IS NULL OR last_used_at < ?)",
    "upstream": "UPDATE upstreams SET tried_at = ?, failure = ? WHERE id = ? AND (tried_at IS NULL OR tried_at <= ?)",
}


@dataclass
class LastUseBuffer:
    """What is not in the database yet. One per process; shared by all threads. Grows with keys and upstreams only."""

    _noted: dict[tuple[str, str], Moment] = field(default_factory=dict)
    _waiting: dict[tuple[str, str], Moment] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def used(self, key_name: str) -> None:
        """An API key was used just now."""
        self._note(("key", key_name), "")

    def tried(self, upstream_id: str, failure: str = "") -> None:
        """An upstream was tried just now.

        :param failure: how it failed, in a sentence without secrets; empty if it did not.
        """
        self._note(("upstream", upstream_id), failure)

    def recovered(self, upstream_id: str) -> None:
        """An upstream does what it was noted to have failed at."""
        subject = ("upstream", upstream_id)
        if self._noted.get(subject, (0, ""))[1]:
            self._note(subject, "")

    def _note(self, subject: tuple[str, str], failure: str) -> None:
        now, last = int(time.time()), self._noted.get(subject)
        if last and last[1] == failure and 0 <= now - last[0] < PRECISION:
            return
        with self._lock:
            self._noted[subject] = self._waiting[subject] = (now, failure)

    def take(self) -> dict[tuple[str, str], Moment]:
        """What is to be stored; from now on that is up to the caller."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
            return taken

    def put_back(self, taken: Mapping[tuple[str, str], Moment]) -> None:
        """It could not be stored."""
        with self._lock:
            self._waiting = {**taken, **self._waiting}


def store(database: peewee.Database, taken: Mapping[tuple[str, str], Moment]) -> None:
    """Store what ``LastUseBuffer.take`` gave, in the transaction that is open. Later ones of others stay."""
    for (kind, name), (moment, failure) in sorted(taken.items()):  # in order: see ``usage``
        values = (moment, name, moment) if kind == "key" else (moment, failure[:LONGEST_FAILURE], name, moment)
        execute(database, STATEMENTS[kind], *values)


def note_try(database: peewee.Database, upstream_id: str, failure: str = "") -> None:
    """Store at once that an upstream was tried; for commands, as ``LastUseBuffer.tried`` is for the server."""
    with database.connection_context():
        store(database, {("upstream", upstream_id): (int(time.time()), failure)})
