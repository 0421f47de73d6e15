"""Collects the results from the hooks in memory, and writes them to the database once a second, in a thread."""

import datetime
import logging
import os
import socket
import threading
import time
from collections import Counter, deque

from floway_core.administration.usage import NOBODY
from floway_core.contexts import AttemptContext, Services
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_core.storage.db import DATABASE_ERRORS, transaction
from floway_core.storage.periodic import start_periodic
from floway_dashboard.recording import first_bytes, requests
from floway_dashboard.recording.first_bytes import Cell
from floway_dashboard.recording.requests import LiveRequest

log = logging.getLogger("floway.dashboard")

FLUSH_INTERVAL_SECONDS = 1.0
PRUNE_INTERVAL_SECONDS = 10.0
UNKNOWN_KEY = "invalid_api_key"
"""The error code of requests with an unknown key, which are shown as well."""


class Recorder:
    """The results that a worker has not written yet. Shared by all threads; its size is limited."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._lost_after = 3 * services.settings.total_timeout
        """Seconds after which a running request without a result is removed: its result was dropped."""
        self._worker = f"{socket.gethostname()[:40]}/{os.getpid()}"
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._running: dict[str, LiveRequest] = {}
        self._written: dict[str, LiveRequest] = {}
        """The running requests as they were last written."""
        self._ended: deque[LiveRequest] = deque(maxlen=requests.MAX_ENDED)
        self._first_bytes: Counter[Cell] = Counter()
        self._pruned_at = 0.0

    def start(self) -> None:
        """Begin to write, in a thread that ends with the process."""
        start_periodic("dashboard", self.flush, FLUSH_INTERVAL_SECONDS)

    def begin(self, attempt: AttemptContext) -> None:
        """Record the start of an attempt."""
        row = requests.running_row(attempt, self._worker)
        with self._lock:
            if before := self._running.get(row.id):
                row.started_at = before.started_at
            self._running[row.id] = row

    def end_attempt(self, attempt: EndedAttempt, result: AttemptResult) -> None:
        """Count the time until the first byte of an attempt."""
        if result.first_byte_seconds is None:
            return
        names = (attempt.key, attempt.model, attempt.upstream.name)
        key, model, upstream = (requests.storable(name) or NOBODY for name in names)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        cells = first_bytes.cells(result.first_byte_seconds, key, model, upstream, day)
        with self._lock:
            for cell in cells:
                self._first_bytes[cell] += 1

    def end(self, result: RequestResult) -> None:
        """Record the end of a request."""
        with self._lock:
            before = self._running.pop(result.id, None)
            if result.key is not None or result.error == UNKNOWN_KEY:
                self._ended.append(requests.ended_row(result, self._worker, before))

    def flush(self) -> None:
        """Write what has changed, in one transaction. If that fails, it is tried again with the next one."""
        with self._flushing:
            visible, ended, counts = self._take()
            changed = [row for row in visible if self._written.get(row.id) is not row] + ended
            removed_ids = self._written.keys() - {row.id for row in (*visible, *ended)}
            must_prune = time.monotonic() > self._pruned_at + PRUNE_INTERVAL_SECONDS
            if not (visible or changed or removed_ids or counts or must_prune):
                return
            try:
                with transaction(self._database):
                    first_bytes.store(self._database, counts)
                    requests.store(self._database, changed)
                    requests.forget(self._database, removed_ids)
                    if visible:
                        requests.keep_alive(self._database, self._worker)
                    if must_prune:
                        self._prune()
            except DATABASE_ERRORS as error:
                log.debug("Requests are not recorded yet: %s", error)
                self._put_back(ended, counts)
            else:
                self._written = {row.id: row for row in visible}

    def _prune(self) -> None:
        requests.prune(self._database)
        first_bytes.forget_old(self._database, datetime.datetime.now(datetime.UTC).date())
        self._pruned_at = time.monotonic()

    def _take(self) -> tuple[list[LiveRequest], list[LiveRequest], Counter[Cell]]:
        """Return the running requests to be shown; take out those that have ended, and the counts."""
        oldest = time.time() - self._lost_after
        with self._lock:
            for row in [row for row in self._running.values() if row.started_at < oldest]:
                del self._running[row.id]
            written_first = sorted(self._running.values(), key=lambda row: row.id not in self._written)
            visible = written_first[: requests.MAX_RUNNING]
            ended = list(self._ended)
            self._ended.clear()
            counts, self._first_bytes = self._first_bytes, Counter()
        return visible, ended, counts

    def _put_back(self, ended: list[LiveRequest], counts: Counter[Cell]) -> None:
        with self._lock:
            self._first_bytes.update(counts)
            self._ended = deque([*ended, *self._ended], maxlen=requests.MAX_ENDED)
