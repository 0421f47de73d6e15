"""``/metrics``: counters and histograms for Prometheus."""

import logging
import os
from collections.abc import Iterable

from flask import Blueprint, Response, current_app, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from floway_core.engine.routing import Candidate
from floway_core.errors import StartupError
from floway_core.settings import METRICS_FOLDER, METRICS_OPEN
from floway_core.storage.db import DATABASE_ERRORS, limited_time
from floway_core.web import current_gateway
from floway_core.web.auth import authenticate_admin
from floway_core.web.metrics_file import reserve_files
from floway_core.web.request_log import RequestLogEntry

blueprint = Blueprint("metrics", __name__)

log = logging.getLogger("floway.metrics")

DATABASE_SECONDS = 2.0
"""How long a scrape waits for PostgreSQL, all in all. Prometheus gives up after 10 seconds, and would have no metrics
just when the database fails."""

NONE = "none"
"""The label of a request without a route, a model or an upstream."""

FIRST_BYTE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
DURATION_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the metrics of all workers, in the format that the client prefers."""
    gateway = current_gateway()
    if gateway.settings.metrics != METRICS_OPEN:
        authenticate_admin(gateway, request)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    with limited_time(gateway.services.database, DATABASE_SECONDS):
        content = encode(current_app.extensions["floway_metrics"].registry)
    return Response(content, content_type=content_type)


# ---------------------------------------------------------------------------------------------------------- registry
class Registry(CollectorRegistry):
    """The metrics of this process, or of all processes that share a folder."""

    def __init__(self, folder: str | None) -> None:
        """:raises StartupError: ``folder`` does not exist."""
        super().__init__()
        self._is_shared = folder is not None
        if folder is None:
            return
        reserve_files()
        if values.ValueClass is values.MutexValue:
            # The library reads the variable when it is imported, perhaps before it was set.
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        try:
            super().register(_FolderCollector(None, folder))  # type: ignore[no-untyped-call]
        except ValueError:
            raise StartupError(f"{METRICS_FOLDER} names {folder!r}, which is not a folder.") from None

    def register(self, collector: Collector) -> None:
        """Add a collector. If a plugin's collector raises, the others are not affected."""
        if not isinstance(collector, MetricWrapperBase):
            super().register(_IsolatedCollector(collector))
        elif not self._is_shared:  # shared metrics are read from the folder
            super().register(collector)


class _FolderCollector(MultiProcessCollector):
    """Adds up the files of all workers.

    The library fails on an empty file. Such a file exists if a worker has just created it, or was killed before
    writing.
    """

    def collect(self) -> Iterable[Metric]:
        with os.scandir(self._path) as entries:
            files = [entry.path for entry in entries if entry.name.endswith(".db") and _has_content(entry)]
        merged: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _has_content(file: os.DirEntry[str]) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # the gauge of a dead worker was removed meanwhile
        return False


class _IsolatedCollector(Collector):
    """A collector of a plugin or of the database, whose failure does not affect other metrics."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        try:
            return list(self._collector.collect())
        except DATABASE_ERRORS as error:
            log.warning("The metrics of %s are missing: %s", type(self._collector).__name__, error)
            return []
        except (Exception, SystemExit):  # a plugin may raise anything
            log.exception("Collecting the metrics of %s failed", type(self._collector).__name__)
            return []


# ----------------------------------------------------------------------------------------------------------- counting
class Metrics:
    """The metrics of core. Labels are configured names, never values of a client."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        target = ("model", "upstream")
        route = ("route", *target)
        self._requests = Counter(
            "floway_requests", "Requests that have ended.", (*route, "status", "outcome"), registry=registry
        )
        self._durations = Histogram(
            "floway_request_seconds",
            "Seconds to the last byte of a response.",
            route,
            registry=registry,
            buckets=DURATION_SECONDS,
        )
        self._first_bytes = Histogram(
            "floway_first_byte_seconds",
            "Seconds to the first byte of a stream.",
            route,
            registry=registry,
            buckets=FIRST_BYTE_SECONDS,
        )
        self._tokens = Counter("floway_tokens", "Tokens used.", (*target, "continued", "kind"), registry=registry)
        self._failures = Counter(
            "floway_upstream_failures", "Dispatches that failed.", (*target, "reason"), registry=registry
        )
        self._unstored = Counter(
            "floway_commit_failures", "Responses that could not be stored.", ("upstream",), registry=registry
        )
        self._open = Gauge(
            "floway_open_streams", "Streams that are open.", registry=registry, multiprocess_mode="livesum"
        )

    def begin_stream(self) -> None:
        """Count a stream as open until ``count`` is called."""
        self._open.inc()

    def count(self, entry: RequestLogEntry) -> None:
        """Count a request that has ended."""
        trace = entry.trace
        target = _target_labels(trace.candidate) if trace.candidate else (NONE, NONE)
        route = (entry.route or NONE, *target)
        self._requests.labels(*route, entry.status, entry.outcome or NONE).inc()
        self._durations.labels(*route).observe(entry.duration)
        if entry.first_byte is not None:
            self._first_bytes.labels(*route).observe(entry.first_byte)
        if entry.streamed:
            self._open.dec()
        continued = "yes" if trace.continued else "no"
        for kind, count in zip(entry.tokens._fields, entry.tokens, strict=True):
            if count:
                self._tokens.labels(*target, continued, kind).inc(count)
        for candidate, reason in trace.failures:
            self._failures.labels(*_target_labels(candidate), reason).inc()
        if trace.unstored:
            self._unstored.labels(target[1]).inc()


def _target_labels(candidate: Candidate) -> tuple[str, str]:
    """Return model and upstream as labels. Lone surrogates, which UTF-8 cannot encode, are replaced."""
    names = (candidate.model.id, candidate.upstream.name)
    model, upstream = (name.encode(errors="replace").decode() for name in names)
    return model, upstream


def open_metrics() -> Metrics:
    """Create the metrics of a process that serves.

    :raises StartupError: the folder that the environment names does not exist.
    """
    return Metrics(Registry(os.environ.get(METRICS_FOLDER) or None))
