"""Histograms for the SDK's metric exporter.

The SDK's own instruments take ten microseconds for each value, because they check and sort its attributes; the four
values of each attempt would cost more than everything else. Here a value is added to the counts of a key.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

MAX_POINTS = 2000
"""Sets of attributes of all instruments together; further ones are counted as one, as the SDK does."""

OVERFLOW = "otel.metric.overflow"


class Instrument(NamedTuple):
    """What is measured."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]
    """Upper bounds of the buckets, ascending."""


@dataclass
class _Point:
    """The values of one instrument with one set of attributes."""

    instrument: Instrument
    attributes: Mapping[str, Any]
    counts: list[int] = field(default_factory=list)
    sum: float = 0
    min: float = float("inf")
    max: float = float("-inf")


class Histograms:
    """The histograms of one process. ``record`` and ``collect`` may run in different threads."""

    def __init__(self, resource: Resource, scope: InstrumentationScope, is_delta: bool) -> None:
        """:param is_delta: whether each collection starts anew, instead of adding up since the start."""
        self._resource = resource
        self._scope = scope
        self._is_delta = is_delta
        self._lock = threading.Lock()
        self._points: dict[Hashable, _Point] = {}
        self._started = time.time_ns()

    def record(
        self, instrument: Instrument, key: Hashable, value: float, attributes: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Add a value.

        :param key: stands for the attributes.
        :param attributes: returns them; called once for each key.
        """
        with self._lock:
            point = self._points.get((instrument.name, key)) or self._add_point(instrument, key, attributes)
            point.counts[bisect_left(instrument.bounds, value)] += 1
            point.sum += value
            point.min = min(point.min, value)
            point.max = max(point.max, value)

    def _add_point(self, instrument: Instrument, key: Hashable, attributes: Callable[[], Mapping[str, Any]]) -> _Point:
        if len(self._points) >= MAX_POINTS:
            key, attributes = OVERFLOW, lambda: {OVERFLOW: True}
        counts = [0] * (len(instrument.bounds) + 1)
        return self._points.setdefault((instrument.name, key), _Point(instrument, attributes(), counts))

    def collect(self) -> MetricsData | None:
        """Return the values; None if there are none."""
        with self._lock:
            now, started = time.time_ns(), self._started
            points: dict[Instrument, list[HistogramDataPoint]] = {}
            for point in self._points.values():
                points.setdefault(point.instrument, []).append(_data_point(point, started, now))
            if self._is_delta:
                self._points, self._started = {}, now
        if not points:
            return None
        temporality = AggregationTemporality.DELTA if self._is_delta else AggregationTemporality.CUMULATIVE
        metrics = [
            Metric(instrument.name, instrument.description, instrument.unit, Histogram(data, temporality))
            for instrument, data in points.items()
        ]
        scope = ScopeMetrics(self._scope, metrics, self._scope.schema_url or "")
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])


def _data_point(point: _Point, started: int, now: int) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=point.attributes,
        start_time_unix_nano=started,
        time_unix_nano=now,
        count=sum(point.counts),
        sum=point.sum,
        bucket_counts=tuple(point.counts),
        explicit_bounds=point.instrument.bounds,
        min=point.min,
        max=point.max,
    )
