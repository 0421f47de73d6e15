"""``/metrics``: what has been counted, for Prometheus."""

import functools
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Response, current_app, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from floway_core.errors import StartupError
from floway_core.settings import METRICS_OPEN
from floway_core.web import current_gateway
from floway_core.web.auth import authenticate_admin
from floway_core.web.request_log import RequestLogEntry

blueprint = Blueprint("metrics", __name__)

log = logging.getLogger("floway.metrics")

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder through which several processes are added up, if they are."""

NONE = "none"
"""The label of a request that has not come as far as a route, a model or an upstream."""

FIRST_BYTE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
DURATION = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Seconds."""


@blueprint.get("/metrics")
def metrics() -> Response:
    """The metrics of all workers, in the format that the scraper prefers."""
    gateway = current_gateway()
    if gateway.settings.metrics != METRICS_OPEN:
        authenticate_admin(gateway, request)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(current_app.extensions["floway_metrics"].registry), content_type=content_type)


# ---------------------------------------------------------------------------------------------------------- registry
class Registry(CollectorRegistry):
    """Metrics of this process, or of all processes that share a folder."""

    def __init__(self, folder: str | None) -> None:
        """:raises StartupError: ``folder`` is none."""
        super().__init__()
        self._shared = folder is not None
        if folder is None:
            return
        if values.ValueClass is values.MutexValue:
            # The library decides when it is imported, and who imported it may not have known of the folder.
            values.ValueClass = values.MultiProcessValue()
        try:
            super().register(_Folder(None, folder))
        except ValueError:
            raise StartupError(f"{FOLDER} names {folder!r}, which is no folder.") from None

    def register(self, collector: Collector) -> None:
        if not isinstance(collector, MetricWrapperBase):
            super().register(_Guarded(collector))
        elif not self._shared:  # else what it counts is in the folder, and read from there
            super().register(collector)


class _Folder(MultiProcessCollector):
    """What all workers have counted. The library stumbles over a file that a worker has just made, or was killed over:
    as long as it is empty, nothing has been counted in it."""

    def collect(self) -> Iterable[Metric]:
        with os.scandir(self._path) as entries:
            files = [entry.path for entry in entries if entry.name.endswith(".db") and _is_begun(entry)]
        return self.merge(files)


def _is_begun(file: os.DirEntry) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # that of a dead worker's open streams
        return False


class _Guarded(Collector):
    """A plugin's collector, whose failure leaves the metrics of the others alone."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        try:
            return list(self._collector.collect())
        except Exception:  # a stranger's code may fail in any way
            log.exception("Metrics of %s cannot be had", type(self._collector).__name__)
            return []


# ----------------------------------------------------------------------------------------------------------- counting
class Metrics:
    """What core counts. Labels come from what is configured and known, never from what a client says."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        place = ("route", "model", "upstream")
        self._requests = _cached(
            Counter("floway_requests", "Requests that have ended.", (*place, "status", "outcome"), registry=registry)
        )
        self._durations = _cached(
            Histogram("floway_request_seconds", "Until the last byte.", place, registry=registry, buckets=DURATION)
        )
        self._first_bytes = _cached(
            Histogram(
                "floway_first_byte_seconds",
                "Until a stream's first byte.",
                place,
                registry=registry,
                buckets=FIRST_BYTE,
            )
        )
        self._tokens = _cached(
            Counter("floway_tokens", "Tokens used.", ("model", "upstream", "session", "kind"), registry=registry)
        )
        self._failures = _cached(
            Counter("floway_upstream_failures", "Dispatches refused.", (*place[1:], "reason"), registry=registry)
        )
        self._unstored = _cached(
            Counter("floway_commit_failures", "Responses not stored.", ("upstream",), registry=registry)
        )
        self._open = Gauge("floway_open_streams", "Streams.", registry=registry, multiprocess_mode="livesum")

    def begin_stream(self) -> None:
        """A stream begins, which ``count`` will end."""
        self._open.inc()

    def count(self, entry: RequestLogEntry) -> None:
        """Count a request that has ended."""
        route, model, upstream = entry.route or NONE, NONE, NONE
        trace = entry.trace
        if trace.tried:
            model, upstream = trace.tried[-1].model.id, trace.tried[-1].upstream.name
        self._requests(route, model, upstream, entry.status, entry.outcome or NONE).inc()
        self._durations(route, model, upstream).observe(entry.duration)
        if entry.first_byte is not None:
            self._first_bytes(route, model, upstream).observe(entry.first_byte)
        if entry.streamed:
            self._open.dec()
        session = "hit" if trace.continued else "miss"
        for kind, count in zip(entry.tokens._fields, entry.tokens, strict=True):
            if count:
                self._tokens(model, upstream, session, kind).inc(count)
        for candidate, reason in trace.failures:
            self._failures(candidate.model.id, candidate.upstream.name, reason).inc()
        if trace.unstored:
            self._unstored(upstream).inc()


def _cached(metric: Any) -> Callable[..., Any]:
    """Gives the child of ``metric`` for label values, faster than its ``labels``."""

    @functools.cache
    def child(*labels: object) -> Any:
        return metric.labels(*(str(label).encode(errors="replace").decode() for label in labels))

    return child


def open_metrics() -> Metrics:
    """The metrics of a process that serves.

    :raises StartupError: the folder that is named in the environment is none.
    """
    return Metrics(Registry(os.environ.get(FOLDER) or None))
