"""Leases of this process on running requests and turns, renewed in the background until they end."""

import logging
import threading
import time
from collections.abc import Callable

import peewee

from floway_core.storage import limits
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.limits")

RENEWAL_INTERVAL_SECONDS = limits.LEASE_SECONDS / 3
"""If one renewal fails, there is time for others."""

RETRY_SECONDS = 1.0
"""Time until the next attempt after the database has failed: others may take an expired lease for an abandoned one."""


class Leases:
    """The leases that this process holds. Any thread may call; the first lease starts the thread that renews them."""

    def __init__(
        self,
        database: peewee.Database,
        interval: float = RENEWAL_INTERVAL_SECONDS,
        renew: Callable[[peewee.Database, list[str]], None] = limits.renew,
        delete: Callable[[peewee.Database, list[str]], None] = limits.delete_leases,
    ) -> None:
        """:param interval: seconds between two renewals.
        :param renew, delete: renew or delete leases in the database.
        """
        self._database = database
        self._interval = interval
        self._renew, self._delete = renew, delete
        self._changed = threading.Condition()
        self._ids: set[str] = set()
        self._ended: dict[str, float] = {}
        """Leases that could not be deleted yet, and when they ended, in monotonic seconds."""
        self._renews = False

    def acquire(self, lease_id: str) -> None:
        """Renew the lease with this id from now on."""
        with self._changed:
            self._ids.add(lease_id)
            self._start()

    def release(self, lease_id: str) -> None:
        """Stop renewing the lease with this id."""
        with self._changed:
            self._ids.discard(lease_id)

    def delete_later(self, lease_id: str) -> None:
        """Delete the lease with this id as soon as the database works again, or let it expire before."""
        with self._changed:
            self._ids.discard(lease_id)
            self._ended[lease_id] = time.monotonic()
            self._start()
            self._changed.notify()

    def _start(self) -> None:
        """Start the thread, with the lock held, unless it runs."""
        if self._renews:
            return
        try:
            threading.Thread(target=self._run, name="leases", daemon=True).start()
            self._renews = True
        except RuntimeError:  # the system allows no thread; the next request tries again
            log.warning("Leases are not renewed for now: no thread can be started")

    def _run(self) -> None:
        is_late = False
        while True:
            with self._changed:
                if is_late or self._ended:
                    self._changed.wait(min(RETRY_SECONDS, self._interval))
                else:
                    self._changed.wait(self._interval)
            is_late = not self._update(was_late=is_late)

    def _update(self, *, was_late: bool) -> bool:
        """Renew the leases that are held, and delete those that have ended; return whether that succeeded.

        :param was_late: whether it failed the last time; the log says so once.
        """
        oldest = time.monotonic() - limits.LEASE_SECONDS
        with self._changed:
            self._ended = {lease_id: at for lease_id, at in self._ended.items() if at > oldest}
            ids, ended = list(self._ids), list(self._ended)
        try:
            if ids:
                self._renew(self._database, ids)
            if ended:
                self._delete(self._database, ended)
        except DATABASE_ERRORS as error:
            if not was_late:
                log.warning("Leases cannot be renewed for now: %s", error)
            return False
        with self._changed:
            for lease_id in ended:
                self._ended.pop(lease_id, None)
        return True
