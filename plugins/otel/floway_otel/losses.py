"""Count spans and metrics that could not be exported, with one log line a minute."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("floway.otel")

REPORT_INTERVAL_SECONDS = 60.0
"""Time between two log lines."""


class Losses:
    """The losses of one signal."""

    def __init__(self, signal: str, clock: Callable[[], float] = time.monotonic) -> None:
        """:param signal: the signal in the plural, for the log.
        :param clock: returns seconds.
        """
        self._signal = signal
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._reported_at = float("-inf")

    def add(self, count: int, reason: str) -> None:
        """Count a loss; log it, unless another one has been logged in the last minute.

        :param reason: without secrets, such as the URL of the collector.
        """
        with self._lock:
            self._count += count
            if self._clock() - self._reported_at < REPORT_INTERVAL_SECONDS:
                return
            self._reported_at = self._clock()
            total = self._count
        log.warning("%d %s could not be exported so far; the last because %s", total, self._signal, reason)


def silence_exporters() -> None:
    """Stop the SDK's exporters from logging each failure, with URLs that may contain secrets. ``Losses`` logs them."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL + 1)
