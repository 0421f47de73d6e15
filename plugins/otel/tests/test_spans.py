"""Spans without a server: what the SDK's exporters get, and that the plugin's encoding says the same."""

import pytest
from floway_otel.finished_span import RequestEncoder
from floway_otel.losses import Losses
from floway_otel.providers import find_server
from floway_otel.span_export import CountingExporter, SpanQueue
from floway_otel.spans import SCOPE, build_spans, read_attempt
from floway_otel.telemetry import Telemetry, Traces
from floway_otel.trace_context import trace_of
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, ParentBased, TraceIdRatioBased

from .results import SETTINGS, attempt, request

RESOURCE = Resource({"service.name": "floway", "process.pid": 7}, "https://opentelemetry.io/schemas/1.40.0")
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2"}
LONG = "\u00e9\u6f22\U0001f600" * 100


@pytest.mark.parametrize(
    ("headers", "of_attempt", "of_request"),
    [
        ({}, {}, {}),
        (TRACE, {"tier": "", "error": "busy", "outcome": "failed", "status": None}, {"status": 503, "error": "busy"}),
        ({}, {"response_id": LONG, "first_byte_seconds": None, "commit_seconds": None}, {"route": None, "key": None}),
        ({}, {"dispatch_seconds": [0.1, 0.2, 0.3]}, {"conversation": LONG, "model": LONG, "attempts": 200}),
        ({}, {"output_types": [], "response_model": None}, {"streamed": False, "conversation": None}),
    ],
)
def test_the_encoding_says_what_the_sdks_says(headers, of_attempt, of_request):
    ended = read_attempt(*attempt(**of_attempt))._replace(content={"gen_ai.input.messages": LONG * 100})
    spans = build_spans(trace_of("r1", headers, DEFAULT_ON), request(**of_request), [ended, ended])
    expected = encode_spans([span.as_readable(RESOURCE, SCOPE, SpanLimits()) for span in spans])
    encoded = RequestEncoder(RESOURCE, SCOPE).encode([span.encode() for span in spans])
    assert ExportTraceServiceRequest.FromString(encoded) == expected
    assert len(expected.resource_spans[0].scope_spans[0].spans) == 3


def test_text_that_is_no_unicode_is_encoded_nevertheless():
    """The SDK would lose the attribute."""
    (span,) = build_spans(trace_of("r1", {}, DEFAULT_ON), request(conversation="a\ud800b", model="\ud800"), [])
    encoded = RequestEncoder(RESOURCE, SCOPE).encode([span.encode()])
    (found,) = ExportTraceServiceRequest.FromString(encoded).resource_spans[0].scope_spans[0].spans
    values = {attribute.key: attribute.value.string_value for attribute in found.attributes}
    assert (values["gen_ai.conversation.id"], values["gen_ai.request.model"]) == ("a?b", "?")


def test_the_exporters_of_the_sdk_work():
    exporter = InMemorySpanExporter()
    traces = Traces(RESOURCE, SETTINGS, exporter)
    telemetry = Telemetry(traces, None)
    telemetry.end_attempt(*attempt("other"))
    telemetry.end_attempt(*attempt())
    telemetry.end_request(request(trace_headers=TRACE))
    telemetry.flush(20)
    of_attempt, of_request = exporter.get_finished_spans()
    assert (of_attempt.name, of_request.name) == ("chat model-1", "POST /v1/responses")
    assert of_attempt.parent == of_request.context and of_attempt.resource is RESOURCE
    assert format(of_request.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert format(of_request.parent.span_id, "016x") == "b7ad6b7169203331"
    assert of_attempt.start_time == pytest.approx(1_800_000_000_250_000_000, abs=1000)
    moments = [(event.name, event.timestamp) for event in of_attempt.events]
    assert [(name, round((time - of_attempt.start_time) / 1e9, 6)) for name, time in moments] == [
        ("floway.dispatch", 0.125),
        ("floway.first_byte", 0.5),
        ("floway.commit", 2.25),
    ]
    assert of_attempt.end_time - of_attempt.start_time == pytest.approx(2_500_000_000, abs=1000)
    assert dict(of_attempt.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "model-1",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "model-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.id": "resp_1",
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.conversation.id": "conversation-1",
        "gen_ai.usage.input_tokens": 700,
        "gen_ai.usage.cache_read.input_tokens": 300,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "openai.response.service_tier": "default",
        "server.address": "api.openai.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "floway.upstream.name": "first",
        "floway.outcome": "completed",
    }


def test_an_alias_is_not_the_model_that_responds():
    ctx, result = attempt(response_model="mine")
    ctx = type(ctx)(**{**vars(ctx), "model": "mine", "upstream_model": "real"})
    span, _ = build_spans(trace_of("r1", {}, DEFAULT_ON), request(), [read_attempt(ctx, result)])
    found = span.template.attributes
    assert (found["gen_ai.request.model"], found["gen_ai.response.model"], span.template.name) == (
        "real",
        "real",
        "chat real",
    )


@pytest.mark.parametrize(
    ("kind", "url", "server"),
    [
        ("openai", "https://api.deepseek.com", ("deepseek", "api.deepseek.com", 443)),
        ("openai", "http://[::1]:8000", ("openai", "::1", 8000)),
        ("chat", "http://notgroq.com", ("chat", "notgroq.com", 80)),
        ("anthropic", None, ("anthropic", None, None)),
        ("echo", None, ("echo", None, None)),
    ],
)
def test_the_provider_and_its_server(kind, url, server):
    assert find_server(kind, url) == server


def test_a_ratio_of_the_requests_is_sampled():
    """The ids of requests begin with the time, so they must not decide as they are."""
    sampler = ParentBased(TraceIdRatioBased(0.5))
    ids = [f"01a226bb-5ae3-77ca-bf75-{number:012x}" for number in range(2000)]
    sampled = [trace_of(id, {}, sampler).is_sampled for id in ids]
    assert 800 < sum(sampled) < 1200
    assert sampled == [trace_of(id, {}, sampler).is_sampled for id in ids]


class Broken(SpanExporter):
    """Fails in every way."""

    def __init__(self):
        self.calls = 0

    def export(self, spans):
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("https://collector.example?key=secret")
        return SpanExportResult.FAILURE


def test_losses_are_logged_once_a_minute(caplog):
    now = [0.0]
    exporter = CountingExporter(Broken(), Losses("spans", clock=lambda: now[0]))
    for seconds in (0, 1, 59, 60, 61):
        now[0] = seconds
        assert exporter.export(["span"] * 10) is SpanExportResult.FAILURE
    assert [record.getMessage() for record in caplog.records] == [
        "10 spans could not be exported so far; the last because of RuntimeError",
        "40 spans could not be exported so far; the last because the exporter failed",
    ]
    assert exporter.finished == 50


def test_the_queue_has_an_end(monkeypatch, caplog):
    for name, value in (("MAX_QUEUE_SIZE", "4"), ("MAX_EXPORT_BATCH_SIZE", "4"), ("SCHEDULE_DELAY", "3600000")):
        monkeypatch.setenv(f"OTEL_BSP_{name}", value)
    exporter = InMemorySpanExporter()
    losses = Losses("spans")
    queue = SpanQueue(RESOURCE, losses, exporter)
    (span,) = build_spans(trace_of("r1", {}, DEFAULT_ON), request(attempts=0), [])
    for _ in range(3):
        queue.add(span)
    queue.flush()
    assert len(exporter.get_finished_spans()) == 3 and not caplog.records
