"""The last use of each API key, and the time and result of the last request to each upstream.

Requests only record it in memory; it is stored together with the usage. Times are exact to the minute, so that a key
in constant use is written once a minute.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import peewee

from floway_core.storage.db import execute, storable_text, transaction

PRECISION_SECONDS = 60
"""Within this time the same use is not recorded again."""

LONGEST_FAILURE = 300
"""Characters. Longer messages are cut off."""

Subject = tuple[str, str]
"""``("key", name)`` or ``("upstream", id)``."""

Use = tuple[int, str]
"""Unix time in seconds, and how it failed; an empty text for success."""

STATEMENTS = {
    "key": "UPDATE api_keys SET last_used_at = ? WHERE name = ? AND (last_used_at IS NULL OR last_used_at < ?)",
    "upstream": "UPDATE upstreams SET tried_at = ?, failure = ? WHERE id = ? AND (tried_at IS NULL OR tried_at <= ?)",
}


@dataclass
class LastUseBuffer:
    """Uses that are not in the database yet, one per key and upstream. One per process; shared by all threads."""

    _latest: dict[Subject, Use] = field(default_factory=dict)
    _unstored: dict[Subject, Use] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note_key_use(self, key_name: str) -> None:
        """Record that an API key was used now."""
        self._note(("key", key_name), "")

    def note_try(self, upstream_id: str, failure: str = "") -> None:
        """Record that an upstream was tried now.

        :param failure: how it failed, in a sentence without secrets; empty for success.
        """
        self._note(("upstream", upstream_id), failure)

    def note_recovery(self, upstream_id: str) -> None:
        """Record that an upstream works, if its last recorded try failed."""
        subject = ("upstream", upstream_id)
        if self._latest.get(subject, (0, ""))[1]:
            self._note(subject, "")

    def _note(self, subject: Subject, failure: str) -> None:
        now, last = int(time.time()), self._latest.get(subject)
        if last and last[1] == failure and 0 <= now - last[0] < PRECISION_SECONDS:
            return
        with self._lock:
            self._latest[subject] = self._unstored[subject] = (now, failure)

    def drain(self) -> dict[Subject, Use]:
        """Remove and return the uses that are not stored yet. The caller stores them."""
        with self._lock:
            uses, self._unstored = self._unstored, {}
            return uses

    def restore(self, uses: Mapping[Subject, Use]) -> None:
        """Return ``uses`` that could not be stored to the buffer. Newer ones are kept."""
        with self._lock:
            self._unstored = {**uses, **self._unstored}


def store(database: peewee.Database, uses: Mapping[Subject, Use]) -> None:
    """Store ``uses`` within the open transaction, unless other processes have stored later ones."""
    for (kind, name), (used_at, failure) in sorted(uses.items()):  # sorted: two that lock rows must not deadlock
        if kind == "key":
            execute(database, STATEMENTS[kind], used_at, name, used_at)
        else:
            execute(database, STATEMENTS[kind], used_at, storable_text(failure, LONGEST_FAILURE), name, used_at)


def store_try(database: peewee.Database, upstream_id: str, failure: str = "") -> None:
    """Store at once that an upstream was tried now. For commands, which have no buffer.

    :param failure: as in ``LastUseBuffer.note_try``.
    """
    with transaction(database):
        store(database, {("upstream", upstream_id): (int(time.time()), failure)})
