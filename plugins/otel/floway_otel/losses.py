"""Counting what could not be exported, with one log line a minute."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("floway.otel")

REPORT_INTERVAL_SECONDS = 60.0
"""Time between two log lines."""


class Losses:
    """The losses of one signal."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """:param what: the signal in the plural, for the log.
        :param clock: returns seconds.
        """
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._reported_at = float("-inf")

    def add(self, count: int, reason: str) -> None:
        """Count a loss; log it, unless another one has been logged in the last minute.

        :param reason: without anything secret, such as the URL of the collector.
        """
        with self._lock:
            self._count += count
            if self._clock() - self._reported_at < REPORT_INTERVAL_SECONDS:
                return
            self._reported_at = self._clock()
            total = self._count
        log.warning("%d %s could not be exported so far; the last because %s", total, self._what, reason)


def silence_exporters() -> None:
    """Keep the exporters of the SDK from logging each failure, with URLs that may hold secrets; ``Losses`` does."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL + 1)
