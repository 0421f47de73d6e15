"""The metrics of OpenTelemetry's conventions for clients of models, and their periodic export."""

import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
    OTEL_METRIC_EXPORT_INTERVAL,
)
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics as names
from opentelemetry.semconv.attributes import error_attributes as errors
from opentelemetry.semconv.attributes import server_attributes as server

from floway_core.protocol.usage import NO_TOKENS
from floway_otel.exporting import read_number
from floway_otel.histograms import Histograms, Instrument
from floway_otel.losses import Losses
from floway_otel.providers import Server
from floway_otel.spans import CHAT, SCOPE, Attempt

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = tuple(4.0**exponent for exponent in range(14))
"""The buckets that the conventions recommend."""

DURATION = Instrument(names.GEN_AI_CLIENT_OPERATION_DURATION, "s", "GenAI operation duration.", SECONDS)
FIRST_CHUNK = Instrument(
    names.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, "s", "Time to receive the first chunk of a stream.", SECONDS
)
INPUT_TOKENS, OUTPUT_TOKENS = (
    Instrument(
        names.GEN_AI_CLIENT_TOKEN_USAGE,
        "{token}",
        "Number of input and output tokens used.",
        TOKENS,
        ((gen_ai.GEN_AI_TOKEN_TYPE, kind.value),),
    )
    for kind in (gen_ai.GenAiTokenTypeValues.INPUT, gen_ai.GenAiTokenTypeValues.OUTPUT)
)
INSTRUMENTS = (DURATION, FIRST_CHUNK, INPUT_TOKENS, OUTPUT_TOKENS)

DEFAULT_INTERVAL_MILLISECONDS = 60_000
"""The SDK's."""

DELTA_PREFERENCES = ("delta", "lowmemory")


class Labels(NamedTuple):
    """The labels of a metric. Their values are configured, or chosen by the upstream; clients cannot choose them."""

    server: Server
    request_model: str
    response_model: str | None
    error: str | None

    def attributes(self) -> dict[str, Any]:
        """Return them by their names in the conventions."""
        values = {
            gen_ai.GEN_AI_OPERATION_NAME: CHAT,
            gen_ai.GEN_AI_PROVIDER_NAME: self.server.provider,
            gen_ai.GEN_AI_REQUEST_MODEL: self.request_model,
            gen_ai.GEN_AI_RESPONSE_MODEL: self.response_model,
            server.SERVER_ADDRESS: self.server.address,
            server.SERVER_PORT: self.server.port,
            errors.ERROR_TYPE: self.error,
        }
        return {name: value for name, value in values.items() if value is not None}


class AttemptMetrics:
    """Counts attempts, and exports the counts periodically in a separate thread."""

    def __init__(
        self, exporter: MetricExporter, resource: Resource, losses: Losses, environ: Mapping[str, str] = os.environ
    ) -> None:
        preference = environ.get(OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, "").strip().lower()
        self._histograms = Histograms(INSTRUMENTS, resource, SCOPE, preference in DELTA_PREFERENCES)
        self._exporter = exporter
        self._losses = losses
        self._interval = read_number(environ, OTEL_METRIC_EXPORT_INTERVAL, DEFAULT_INTERVAL_MILLISECONDS) / 1000
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="floway-otel metrics", daemon=True)
        self._thread.start()

    def record(self, attempt: Attempt) -> None:
        """Count an attempt that has ended."""
        ctx, result, upstream_server, response_model, error, _ = attempt
        labels = Labels(upstream_server, ctx.upstream_model, response_model, error)
        tokens = (None, None) if result.tokens == NO_TOKENS else (result.tokens.input, result.tokens.output)
        values = (result.seconds, result.first_byte_seconds, *tokens)
        if error is None:
            self._histograms.record(labels, values, labels.attributes)
            return
        self._histograms.record(labels, (values[0], None, None, None), labels.attributes)
        labels = labels._replace(error=None)  # the conventions have it only for the duration
        self._histograms.record(labels, (None, *values[1:]), labels.attributes)

    def flush(self, timeout: float) -> None:
        """Start the last export, and wait for it up to ``timeout`` seconds."""
        self.stop()
        self._thread.join(timeout)

    def stop(self) -> None:
        """Start the last export."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self._export()
        self._export()

    def _export(self) -> None:
        if (data := self._histograms.collect()) is None:
            return
        try:
            is_exported = self._exporter.export(data) is MetricExportResult.SUCCESS
            reason = "the collector did not accept them"
        except Exception as error:  # noqa: BLE001 - counted and logged as a loss; the thread has to go on
            is_exported, reason = False, f"of {type(error).__name__}"
        if not is_exported:
            self._losses.add(1, reason)
