"""Metrics without a server: sums over time, or for each interval, and an end of their number."""

import threading

from floway_otel import histograms
from floway_otel.histograms import Histograms, Instrument
from floway_otel.losses import Losses
from floway_otel.metrics import AttemptMetrics
from floway_otel.spans import SCOPE, read_attempt
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource

from .results import attempt

SIZES = Instrument("size", "By", "Sizes.", (1.0, 10.0))
RESOURCE = Resource({})


def points(data):
    return [
        point
        for resource_metrics in data.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
        for point in metric.data.data_points
    ]


def record(made, value, key="a"):
    made.record(key, (value,), lambda: {"key": key})


def test_values_add_up_or_start_anew():
    for is_delta, counts in ((False, [1, 2]), (True, [1, 1])):
        made = Histograms((SIZES,), RESOURCE, SCOPE, is_delta)
        assert made.collect() is None
        collected = []
        for value in (1, 11):
            record(made, value)
            collected += points(made.collect())
        first, second = collected
        assert [first.count, second.count] == counts and second.max == 11
        assert first.bucket_counts == (1, 0, 0) and second.bucket_counts == ((0, 0, 1) if is_delta else (1, 0, 1))
        assert (second.start_time_unix_nano == first.time_unix_nano) is is_delta


def test_their_number_has_an_end(monkeypatch):
    monkeypatch.setattr(histograms, "MAX_KEYS", 3)
    made = Histograms((SIZES,), RESOURCE, SCOPE, False)
    for number in range(10):
        record(made, number, str(number))
    found = [(point.attributes, point.count) for point in points(made.collect())]
    assert found[:3] == [({"key": str(number)}, 1) for number in range(3)]
    assert found[3:] == [({"otel.metric.overflow": True}, 7)]


class Recorder(MetricExporter):
    def __init__(self):
        super().__init__()
        self.data = []
        self.arrived = threading.Event()

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.data.append(metrics_data)
        self.arrived.set()
        if len(self.data) == 1:
            raise RuntimeError("no")
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis=30_000, **kwargs):
        pass

    def force_flush(self, timeout_millis=10_000):
        return True


def test_the_environment_says_how_often_and_from_when(caplog):
    exporter = Recorder()
    environ = {"OTEL_METRIC_EXPORT_INTERVAL": "1", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "DELTA"}
    metrics = AttemptMetrics(exporter, RESOURCE, Losses("intervals of metrics"), environ)
    metrics.record(read_attempt(*attempt()))
    assert exporter.arrived.wait(20)
    metrics.record(read_attempt(*attempt(outcome="failed", error="busy")))
    metrics.flush(20)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "1 intervals of metrics could not be exported so far; the last because of RuntimeError"
    data = exporter.data[-1].resource_metrics[0].scope_metrics[0].metrics
    assert {metric.data.aggregation_temporality for metric in data} == {AggregationTemporality.DELTA}
    with_error = {metric.name for metric in data if "error.type" in metric.data.data_points[0].attributes}
    assert with_error == {"gen_ai.client.operation.duration"}
