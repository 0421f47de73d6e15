"""The telemetry of one process: converts the results of attempts and requests to spans and metrics."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from floway_core.contexts import AttemptContext, ClientRequest
from floway_core.results import AttemptResult, EndedAttempt, RequestResult
from floway_otel.content import input_attributes, output_attributes
from floway_otel.exporting import exports_metrics, exports_traces
from floway_otel.losses import Losses, silence_exporters
from floway_otel.metrics import AttemptMetrics
from floway_otel.settings import CONTENT, MAX_CONTENT_BYTES, PROPAGATE_TO
from floway_otel.span_export import SpanQueue
from floway_otel.spans import Attempt, build_spans, finish_reason, read_attempt
from floway_otel.trace_context import trace_of

MAX_OPEN = 4096
"""Attempts whose request has not ended yet. The oldest are dropped: core may have dropped the request's result."""

UNTRACED_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that monitoring requests every few seconds."""


class Traces:
    """The spans of one process."""

    def __init__(self, resource: Resource, settings: Mapping[str, Any], exporter: SpanExporter | None) -> None:
        # The provider reads from the environment which requests to sample.
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._queue = SpanQueue(resource, Losses("spans"), exporter)
        self._propagate_to: frozenset[str] = settings[PROPAGATE_TO]
        self._max_content_bytes: int | None = settings[MAX_CONTENT_BYTES] if settings[CONTENT] == "on" else None
        self._lock = threading.Lock()
        self._requests: OrderedDict[str, ClientRequest] = OrderedDict()
        """By the id of the attempt; only if content is exported."""
        self._attempts: OrderedDict[str, list[Attempt]] = OrderedDict()
        """By the id of the request. Used only by the plugin's thread."""

    def begin_attempt(self, ctx: AttemptContext) -> None:
        """Inject the trace into the upstream's headers and remember the request, if configured."""
        if self._max_content_bytes is not None:
            with self._lock:
                self._requests[ctx.id] = ctx.request
                _drop_oldest(self._requests)
        if ctx.upstream.name in self._propagate_to:
            trace_of(ctx.request.id, ctx.request.headers, self._sampler).inject(ctx.id, ctx.trace_headers)

    def end_attempt(self, attempt: Attempt) -> None:
        """Store an attempt until its request has ended."""
        if self._max_content_bytes is not None:
            attempt = attempt._replace(content=self._content(attempt, self._max_content_bytes))
        self._attempts.setdefault(attempt.ctx.request_id, []).append(attempt)
        _drop_oldest(self._attempts)

    def _content(self, attempt: Attempt, limit: int) -> dict[str, str]:
        with self._lock:
            request = self._requests.pop(attempt.ctx.id, None)
        input_texts = input_attributes(request.body, limit) if request else {}
        return input_texts | output_attributes(attempt.result.output, finish_reason(attempt.result), limit)

    def end_request(self, result: RequestResult) -> None:
        """Export the spans of a request."""
        if result.route in UNTRACED_ROUTES:
            return
        attempts = self._attempts.pop(result.id, ())
        trace = trace_of(result.id, result.trace_headers, self._sampler)
        if trace.is_sampled:
            for span in build_spans(trace, result, attempts):
                self._queue.add(span)

    def flush(self) -> None:
        """Export the queued spans."""
        self._queue.flush()


def _drop_oldest(entries: OrderedDict[str, Any]) -> None:
    if len(entries) > MAX_OPEN:
        entries.popitem(last=False)


class Telemetry:
    """The traces and metrics of one process."""

    def __init__(self, traces: Traces | None, metrics: AttemptMetrics | None) -> None:
        self._traces = traces
        self._metrics = metrics

    def begin_attempt(self, ctx: AttemptContext) -> None:
        """Handle the start of an attempt."""
        if self._traces:
            self._traces.begin_attempt(ctx)

    def end_attempt(self, ctx: EndedAttempt, result: AttemptResult) -> None:
        """Handle the end of an attempt."""
        attempt = read_attempt(ctx, result)
        if self._metrics:
            self._metrics.record(attempt)
        if self._traces:
            self._traces.end_attempt(attempt)

    def end_request(self, result: RequestResult) -> None:
        """Handle the end of a request, after its attempts."""
        if self._traces:
            self._traces.end_request(result)

    def flush(self, timeout: float) -> None:
        """Export everything; wait for metrics up to ``timeout`` seconds, for spans as long as the exporter does."""
        deadline = time.monotonic() + timeout
        if self._metrics:
            self._metrics.stop()  # both at the same time
        self.export_spans()
        if self._metrics:
            self._metrics.flush(max(0.0, deadline - time.monotonic()))

    def export_spans(self) -> None:
        """Export the queued spans, and wait for it."""
        if self._traces:
            self._traces.flush()


def open_telemetry(
    settings: Mapping[str, Any],
    environ: Mapping[str, str],
    span_exporter: SpanExporter | None = None,
    metric_exporter: MetricExporter | None = None,
) -> Telemetry | None:
    """Return the telemetry that the environment configures; None if it configures none.

    :param settings: those of the plugin.
    :param span_exporter, metric_exporter: for tests; by default, everything is sent to a collector.
    :raises ValueError: the environment demands an unsupported exporter or protocol.
    """
    traces, metrics = None, None
    has_traces, has_metrics = exports_traces(environ), exports_metrics(environ)
    if not (has_traces or has_metrics):
        return None
    resource = find_resource()
    if has_traces:
        traces = Traces(resource, settings, span_exporter)
    if has_metrics:
        metrics = AttemptMetrics(metric_exporter or OTLPMetricExporter(), resource, Losses("intervals of metrics"))
    silence_exporters()
    return Telemetry(traces, metrics)


def find_resource() -> Resource:
    """Return the resource that the environment describes. Its service is ``floway`` by default."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "floway"}))
    return resource
