"""Export spans in batches, in a thread of the SDK."""

import os
from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from floway_otel.exporting import read_number
from floway_otel.finished_span import FinishedSpan, RequestEncoder
from floway_otel.losses import Losses
from floway_otel.spans import SCOPE

DEFAULT_MAX_QUEUE_SIZE = 2048
"""The SDK's."""

MOST_ATTRIBUTES = 32
"""No span has more."""


class ExportError(Exception):
    """The collector did not accept spans. The message states why, without the URL, which may contain a secret."""


class EncodedSpanExporter(OTLPSpanExporter):
    """The SDK's exporter, for spans that are already encoded.

    It uses ``_client`` of the SDK, a private name, because there is no public one.
    """

    def __init__(self, encoder: RequestEncoder) -> None:
        super().__init__()
        self._encoder = encoder

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Send spans to the collector. ``OTEL_EXPORTER_OTLP_TIMEOUT`` limits the time.

        :param spans: ``EncodedSpan`` objects.
        :raises ExportError: the collector did not accept them.
        """
        outcome = self._client.export(self._encoder.encode(spans))
        if outcome.success:
            return SpanExportResult.SUCCESS
        if outcome.status_code is not None:
            raise ExportError(f"the collector answered with status {outcome.status_code}")
        raise ExportError(f"of {type(outcome.error).__name__}" if outcome.error else "the collector did not answer")


class CountingExporter(SpanExporter):
    """Wraps an exporter. Counts the spans that it exports and loses."""

    def __init__(self, inner: SpanExporter, losses: Losses) -> None:
        self._inner = inner
        self._losses = losses
        self.finished = 0
        """Spans that have left the queue, exported or lost."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans, and count those that are lost."""
        self.finished += len(spans)
        try:
            if (result := self._inner.export(spans)) is SpanExportResult.SUCCESS:
                return result
            self._losses.add(len(spans), "the exporter failed")
        except ExportError as error:
            self._losses.add(len(spans), str(error))
        except Exception as error:  # noqa: BLE001 - counted and logged as a loss; the thread has to go on
            self._losses.add(len(spans), f"of {type(error).__name__}")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Shut down the wrapped exporter."""
        self._inner.shutdown()


class SpanQueue:
    """A bounded queue of spans, for an exporter that may hang."""

    def __init__(self, resource: Resource, losses: Losses, exporter: SpanExporter | None = None) -> None:
        """:param exporter: an exporter of the SDK, for tests; by default, spans are sent to the collector."""
        self._resource = resource
        self._limits = SpanLimits()
        self._is_encoding = exporter is None and not _has_limits(self._limits)
        if exporter is None:
            # Only the SDK's own encoder can cut attributes.
            encoder = RequestEncoder(resource, SCOPE)
            exporter = EncodedSpanExporter(encoder) if self._is_encoding else OTLPSpanExporter()
        self._losses = losses
        self._size = read_number(os.environ, OTEL_BSP_MAX_QUEUE_SIZE, DEFAULT_MAX_QUEUE_SIZE)
        self._exporter = CountingExporter(exporter, losses)
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=self._size)
        self._added = 0

    def add(self, span: FinishedSpan) -> None:
        """Queue a span; drop it if the queue is full. Never waits. For one thread only."""
        if self._added - self._exporter.finished >= self._size:
            self._losses.add(1, "too many are waiting")
            return
        self._added += 1
        entry: Any = span.encode() if self._is_encoding else span.as_readable(self._resource, SCOPE, self._limits)
        self._processor.on_end(entry)

    def flush(self) -> None:
        """Export the queued spans."""
        self._processor.force_flush()


def _has_limits(limits: SpanLimits) -> bool:
    """Return whether the environment limits the attributes of spans more than they need."""
    count = limits.max_span_attributes
    return limits.max_span_attribute_length is not None or (count is not None and count < MOST_ATTRIBUTES)
