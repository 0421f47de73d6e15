"""Exporting spans in batches, in a thread of the SDK's own."""

import os
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from floway_otel.exporting import read_number
from floway_otel.finished_span import FinishedSpan, SpanEncoder
from floway_otel.losses import Losses

DEFAULT_MAX_QUEUE_SIZE = 2048
"""The SDK's."""


class ExportFailed(Exception):
    """Spans were not taken by the collector. The message says why, without the URL, which may hold a secret."""


class FastSpanExporter(OTLPSpanExporter):
    """The SDK's exporter with another encoder, for finished spans.

    ``_client`` sends what is encoded. It is a private name of the SDK, and no public way leads there.
    """

    def __init__(self, encoder: SpanEncoder) -> None:
        super().__init__()
        self._encoder = encoder

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the collector, for as long as ``OTEL_EXPORTER_OTLP_TIMEOUT`` says.

        :raises ExportFailed: the collector did not take them.
        """
        finished = [span for span in spans if isinstance(span, FinishedSpan)]
        outcome = self._client.export(self._encoder.encode(finished))
        if outcome.success:
            return SpanExportResult.SUCCESS
        if outcome.status_code is not None:
            raise ExportFailed(f"the collector answered with status {outcome.status_code}")
        raise ExportFailed(f"of {type(outcome.error).__name__}" if outcome.error else "the collector did not answer")


class CountingExporter(SpanExporter):
    """Counts what the exporter within takes and what it loses."""

    def __init__(self, inner: SpanExporter, losses: Losses) -> None:
        self._inner = inner
        self._losses = losses
        self.taken = 0
        """Spans that have left the queue."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans, and count those that are lost."""
        self.taken += len(spans)
        try:
            if (result := self._inner.export(spans)) is SpanExportResult.SUCCESS:
                return result
            self._losses.add(len(spans), "the exporter failed")
        except ExportFailed as error:
            self._losses.add(len(spans), str(error))
        except Exception as error:  # noqa: BLE001 - counted and logged as a loss; the thread has to go on
            self._losses.add(len(spans), f"of {type(error).__name__}")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Shut down the exporter within."""
        self._inner.shutdown()


class SpanQueue:
    """A queue of spans with an end, in front of an exporter that may hang."""

    def __init__(self, exporter: SpanExporter, losses: Losses) -> None:
        self._losses = losses
        self._size = read_number(os.environ, OTEL_BSP_MAX_QUEUE_SIZE, DEFAULT_MAX_QUEUE_SIZE)
        self._exporter = CountingExporter(exporter, losses)
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=self._size)
        self._added = 0

    def add(self, span: ReadableSpan) -> None:
        """Queue a span; drop it if the queue is full. Never waits. For one thread only."""
        if self._added - self._exporter.taken >= self._size:
            self._losses.add(1, "too many are waiting")
            return
        self._added += 1
        self._processor.on_end(span)

    def flush(self) -> None:
        """Export what is queued."""
        self._processor.force_flush()
