"""The running requests of this process that hold a lease: a thread renews them until they end."""

import logging
import threading
import time

import peewee

from floway_core.storage import limits
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.limits")

RENEWAL = limits.TERM / 3
"""Seconds between two renewals: one that fails has time for another try."""


class Leases:
    """Leases held by this process. Any thread may call; the thread that renews begins with the first lease.

    :param interval: seconds between two renewals.
    """

    def __init__(self, database: peewee.Database, interval: float = RENEWAL) -> None:
        self._database = database
        self._interval = interval
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._renewing = False

    def hold(self, request_id: str) -> None:
        """Renew the lease of this request from now on."""
        with self._lock:
            self._held.add(request_id)
            if self._renewing:
                return
            try:
                threading.Thread(target=self._renew_forever, name="leases", daemon=True).start()
                self._renewing = True
            except RuntimeError:  # no thread can be started just now; the next request tries again
                log.warning("Leases are not renewed for now: no thread can be started")

    def release(self, request_id: str) -> None:
        """Renew it no more."""
        with self._lock:
            self._held.discard(request_id)

    def _renew_forever(self) -> None:
        while True:
            time.sleep(self._interval)
            with self._lock:
                held = list(self._held)
            if not held:
                continue
            try:
                limits.renew(self._database, held)
            except DATABASE_ERRORS as error:
                log.warning("Leases could not be renewed: %s", error)
