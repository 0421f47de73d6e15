"""Leases of this process on running requests and turns, renewed in the background until they end."""

import logging
import threading

import peewee

from floway_core.storage import limits
from floway_core.storage.db import DATABASE_ERRORS
from floway_core.storage.periodic import start_periodic

log = logging.getLogger("floway.limits")

RENEWAL_INTERVAL_SECONDS = limits.LEASE_SECONDS / 3
"""If one renewal fails, there is time for another one."""


class Leases:
    """The leases that this process holds. Any thread may call; the first lease starts the thread that renews them."""

    def __init__(
        self,
        database: peewee.Database,
        interval: float = RENEWAL_INTERVAL_SECONDS,
        table: str = limits.KEY_LEASES,
    ) -> None:
        """:param interval: seconds between two renewals.
        :param table: where the leases are stored.
        """
        self._database = database
        self._interval = interval
        self._table = table
        self._lock = threading.Lock()
        self._ids: set[str] = set()
        self._renews = False

    def acquire(self, lease_id: str) -> None:
        """Renew the lease with this id from now on."""
        with self._lock:
            self._ids.add(lease_id)
            if self._renews:
                return
            try:
                start_periodic("leases", self._renew, self._interval)
                self._renews = True
            except RuntimeError:  # the system allows no thread; the next request tries again
                log.warning("Leases are not renewed for now: no thread can be started")

    def release(self, lease_id: str) -> None:
        """Stop renewing the lease with this id."""
        with self._lock:
            self._ids.discard(lease_id)

    def _renew(self) -> None:
        with self._lock:
            ids = list(self._ids)
        if not ids:
            return
        try:
            limits.renew(self._database, ids, self._table)
        except DATABASE_ERRORS as error:
            log.warning("Leases could not be renewed: %s", error)
