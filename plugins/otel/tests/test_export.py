"""Exporting from a running gateway: when, where, and what happens if the collector does not take it."""

import re
import time

import pytest
from floway_otel.exporting import exports_metrics, exports_traces

from floway_core.testing import ApiClient, FakeUpstream, Reply, message_stream

from .collector import Collector, attributes_of
from .conftest import open_gateway

NEVER = str(3600_000)
"""Milliseconds after which no test waits any more."""


@pytest.fixture
def own_collector():
    with Collector() as running:
        yield running


@pytest.fixture
def own_upstream():
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def start(own_collector, own_upstream):
    """Starts a gateway of the test's own."""
    gateways = []

    def start(settings=None, **environ):
        upstreams = [("openai", "first", own_upstream.url, "model-1")]
        gateways.append(open_gateway(own_collector, upstreams, settings, **environ))
        return gateways[-1]

    yield start
    for gateway in gateways:
        gateway.__exit__()


def create(gateway, upstream, count=1, **fields):
    """Request responses, one after the other."""
    client = ApiClient(gateway.url, gateway.key)
    upstream.script(*[Reply(message_stream())] * count)
    answers = [client.create(**fields) for _ in range(count)]
    assert all(answer.status == 200 and answer.body for answer in answers)  # a stop waits for unread answers
    return answers


def ids(spans):
    return {span["attributes"].get("floway.request.id") for span in spans} - {None}


def test_what_is_queued_is_exported_before_the_server_stops(start, own_upstream, own_collector):
    gateway = start({"graceful_timeout": "20"}, OTEL_BSP_SCHEDULE_DELAY=NEVER, OTEL_METRIC_EXPORT_INTERVAL=NEVER)
    answers = create(gateway, own_upstream, 5)
    assert own_collector.requests == []
    assert gateway.stop() == 0
    assert {answer.headers["x-request-id"] for answer in answers} <= ids(own_collector.spans())
    ((_, durations), *_) = [
        entry for entry in own_collector.metrics() if entry[0] == "gen_ai.client.operation.duration"
    ]
    assert sum(point.count for point in durations.data_points) == 5


def test_each_worker_exports_for_itself(start, own_upstream, own_collector):
    gateway = start({"workers": "2", "graceful_timeout": "20"})
    answers = create(gateway, own_upstream, 20)
    assert gateway.stop() == 0
    spans = own_collector.spans()
    assert {answer.headers["x-request-id"] for answer in answers} <= ids(spans)
    assert len({span["id"] for span in spans}) == len(spans)
    instances = {span["resource"]["service.instance.id"] for span in spans}
    assert 1 <= len(instances) <= 2  # the kernel chooses the worker


def test_a_collector_that_hangs_costs_no_request_anything(start, own_upstream, own_collector):
    own_collector.release.clear()
    environ = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "8",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        "OTEL_BSP_SCHEDULE_DELAY": "1",
        "OTEL_METRIC_EXPORT_INTERVAL": "10",
    }
    gateway = start({"graceful_timeout": "1"}, **environ)
    create(gateway, own_upstream)
    own_collector.wait_for(lambda: {"/v1/traces", "/v1/metrics"} <= {path for path, _, _ in own_collector.requests})
    create(gateway, own_upstream, 20)  # all of them while the collector hangs
    assert len([path for path, _, _ in own_collector.requests if path == "/v1/traces"]) == 1
    (line,) = gateway.wait_for_log("spans could not be exported")
    assert re.search(r"WARNING floway.otel 1 spans could not be exported so far; the last because too many", line)
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 15
    assert gateway.log.count("could not be exported") == 1


def test_a_collector_that_is_down_or_refuses_is_logged_once(start, own_upstream, own_collector):
    own_collector.status = 400
    secret = "hush"
    own_endpoint = f"{own_collector.url}/v1/traces?key={secret}"
    gateway = start(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=own_endpoint, OTEL_BSP_SCHEDULE_DELAY="1")
    create(gateway, own_upstream, 3)
    gateway.wait_for_log("spans could not be exported")
    seen = len(own_collector.requests)
    create(gateway, own_upstream)
    own_collector.wait_for(lambda: len(own_collector.requests) > seen)
    lines = [line for line in gateway.log.splitlines() if "could not be exported" in line]
    assert len(lines) == 1 and lines[0].endswith("the last because the collector answered with status 400")
    assert secret not in gateway.log and "opentelemetry" not in gateway.log


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
TRACES_ENDPOINT = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, False, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False, False),
        (ENDPOINT, True, True),
        (TRACES_ENDPOINT, True, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False, True),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, True),
    ],
)
def test_what_is_exported(environ, traces, metrics):
    assert (exports_traces(environ), exports_metrics(environ)) == (traces, metrics)


def test_nothing_is_exported_unasked(start, own_upstream, own_collector):
    gateway = start({"graceful_timeout": "20"}, OTEL_EXPORTER_OTLP_ENDPOINT="")
    create(gateway, own_upstream)
    assert gateway.stop() == 0
    assert own_collector.requests == [] and "floway.otel" not in gateway.log


def test_the_sampler_of_the_environment_decides(start, own_upstream, own_collector):
    gateway = start({"graceful_timeout": "20"}, OTEL_TRACES_SAMPLER="always_off", OTEL_METRIC_EXPORT_INTERVAL=NEVER)
    create(gateway, own_upstream)
    assert gateway.stop() == 0
    assert {path for path, _, _ in own_collector.requests} == {"/v1/metrics"}


def test_the_standard_variables_work(start, own_upstream, own_collector):
    gateway = start(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{own_collector.url}/mine",
        OTEL_METRICS_EXPORTER="none",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=me",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_SERVICE_NAME="gateway",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.instance.id=one",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="6",
    )
    create(gateway, own_upstream)
    path, headers, _ = own_collector.wait_for(lambda: own_collector.requests and own_collector.requests[0])
    sent = {name.lower(): value for name, value in headers.items()}
    assert (path, sent["x-tenant"], sent["content-encoding"]) == ("/mine", "me", "gzip")
    own_collector.requests[:] = [("/v1/traces", *rest) for _, *rest in own_collector.requests]
    span = own_collector.wait_for(own_collector.spans)[0]
    assert span["resource"]["service.name"] == "gateway"
    assert span["resource"]["deployment.environment.name"] == "test"
    assert span["resource"]["service.instance.id"] == "one"
    assert span["attributes"]["gen_ai.request.model"] == "model-" and span["name"] == "chat model-1"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "it may be http/protobuf only"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "it may be http/protobuf only"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "it may be otlp or none"),
    ],
)
def test_what_the_plugin_does_not_have(variable, value, problem):
    with pytest.raises(ValueError, match=re.escape(f"{variable} is {value!r}; {problem}")):
        exports_traces({**ENDPOINT, variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; it may be http/protobuf only"),
        ("OTEL_PROPAGATORS", "pigeon", "Propagator pigeon not found"),
    ],
)
def test_requests_are_served_without_telemetry_if_it_cannot_be_had(start, own_upstream, variable, value, problem):
    gateway = start(**{variable: value})
    create(gateway, own_upstream)
    assert f"ERROR floway.otel Traces and metrics are not exported: {problem}" in gateway.log


def test_metrics(start, own_upstream, own_collector):
    gateway = start({"graceful_timeout": "20"}, OTEL_METRIC_EXPORT_INTERVAL=NEVER)
    client = ApiClient(gateway.url, gateway.key)
    own_upstream.script(Reply(message_stream()), Reply(message_stream()), Reply([b"{}"], 400))
    for ask, status in ((client.stream, 200), (client.create, 200), (client.create, 400)):
        answer = ask()
        assert answer.body and answer.status == status
    assert gateway.stop() == 0
    found = {}
    for name, histogram in own_collector.metrics():
        for point in histogram.data_points:
            found[name, tuple(sorted(attributes_of(point).items()))] = point
    host, _, port = own_upstream.url.removeprefix("http://").partition(":")
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "model-1",
        "server.address": host,
        "server.port": int(port),
    }

    def point(name, **attributes):
        return found.pop((f"gen_ai.client.{name}", tuple(sorted({**common, **attributes}.items()))))

    answered = {"gen_ai.response.model": "model-1"}
    duration = point("operation.duration", **answered)
    assert duration.count == 2 and list(duration.explicit_bounds)[:3] == [0.01, 0.02, 0.04]
    assert 0 < duration.min <= duration.max and duration.sum == pytest.approx(duration.min + duration.max)
    assert sum(duration.bucket_counts) == 2 and len(duration.bucket_counts) == len(duration.explicit_bounds) + 1
    assert point("operation.time_to_first_chunk", **answered).count == 1
    for kind, tokens in (("input", 7), ("output", 5)):
        usage = point("token.usage", **answered, **{"gen_ai.token.type": kind})
        assert (usage.count, usage.sum, usage.min, usage.max) == (2, 2 * tokens, tokens, tokens)
        assert usage.bucket_counts[2] == 2  # of (4, 16]
    ((name, attributes),) = found  # the attempt that was refused
    assert name == "gen_ai.client.operation.duration" and "error.type" in dict(attributes)
