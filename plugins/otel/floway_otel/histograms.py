"""Histograms for the SDK's metric exporter.

The SDK's own instruments take ten microseconds for each value, because they check and sort its attributes; the four
values of each attempt would cost more than everything else. Here they are added to counters that already exist.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
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

MAX_KEYS = 2000
"""Sets of attributes. All further sets are counted as one, as the SDK does."""

OVERFLOW = "otel.metric.overflow"


class Instrument(NamedTuple):
    """A measured quantity. Several may have the same name if their attributes differ."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...]
    """Upper bounds of the buckets, ascending."""
    attributes: tuple[tuple[str, str], ...] = ()
    """Those of its own."""


class _Point:
    """The values of one instrument with one set of attributes."""

    def __init__(self, instrument: Instrument, attributes: Mapping[str, Any]) -> None:
        self.instrument = instrument
        self.attributes = {**attributes, **dict(instrument.attributes)}
        self.counts = [0] * (len(instrument.bounds) + 1)
        self.sum: float = 0
        self.min = float("inf")
        self.max = float("-inf")

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.instrument.bounds, value)] += 1
        self.sum += value
        if value < self.min:
            self.min = value
        if value > self.max:
            self.max = value

    def data(self, started: int, now: int) -> HistogramDataPoint:
        """:param started, now: Unix time in nanoseconds."""
        return HistogramDataPoint(
            attributes=self.attributes,
            start_time_unix_nano=started,
            time_unix_nano=now,
            count=sum(self.counts),
            sum=self.sum,
            bucket_counts=tuple(self.counts),
            explicit_bounds=self.instrument.bounds,
            min=self.min,
            max=self.max,
        )


class Histograms:
    """The histograms of one process. ``record`` and ``collect`` may run in different threads."""

    def __init__(
        self, instruments: Sequence[Instrument], resource: Resource, scope: InstrumentationScope, is_delta: bool
    ) -> None:
        """:param is_delta: whether each collection starts at zero, instead of counting since the start."""
        self._instruments = instruments
        self._resource = resource
        self._scope = scope
        self._is_delta = is_delta
        self._lock = threading.Lock()
        self._points: dict[Hashable, list[_Point]] = {}
        self._started = time.time_ns()

    def record(
        self, key: Hashable, values: Sequence[float | None], attributes: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Add a value to each instrument.

        :param key: identifies the attributes.
        :param values: in the order of the instruments; None for those without a value.
        :param attributes: returns the attributes; called once for each key.
        """
        with self._lock:
            points = self._points.get(key) or self._add_points(key, attributes)
            for point, value in zip(points, values, strict=True):
                if value is not None:
                    point.add(value)

    def _add_points(self, key: Hashable, attributes: Callable[[], Mapping[str, Any]]) -> list[_Point]:
        if len(self._points) >= MAX_KEYS:
            key, attributes = OVERFLOW, lambda: {OVERFLOW: True}
        if key not in self._points:
            self._points[key] = [_Point(instrument, attributes()) for instrument in self._instruments]
        return self._points[key]

    def collect(self) -> MetricsData | None:
        """Return the values; None if there are none."""
        with self._lock:
            now, started = time.time_ns(), self._started
            data: dict[str, tuple[Instrument, list[HistogramDataPoint]]] = {}
            for point in (point for points in self._points.values() for point in points if any(point.counts)):
                _, points = data.setdefault(point.instrument.name, (point.instrument, []))
                points.append(point.data(started, now))
            if self._is_delta:
                self._points, self._started = {}, now
        if not data:
            return None
        temporality = AggregationTemporality.DELTA if self._is_delta else AggregationTemporality.CUMULATIVE
        metrics = [
            Metric(instrument.name, instrument.description, instrument.unit, Histogram(points, temporality))
            for instrument, points in data.values()
        ]
        scope = ScopeMetrics(self._scope, metrics, self._scope.schema_url or "")
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])
