"""A gateway that exports to a collector, in front of scripted upstreams."""

import pytest

from floway_core.testing import ApiClient, FakeUpstream, RunningGateway

from .collector import Collector

MODELS = ("model-1", "model-2")


def open_gateway(collector, upstreams, settings=None, **environ):
    """Start a gateway; each of ``upstreams`` is (kind, name, base URL, model)."""
    gateway = RunningGateway(
        settings,
        installed=["otel", "openai", "chat", "anthropic", "echo"],
        environ={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "20", **environ},
    )
    for kind, name, url, model in upstreams:
        gateway.add_upstream(kind, name, url, "--model", model)
    return gateway


@pytest.fixture(scope="session")
def scripted():
    with FakeUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def running_collector():
    with Collector() as running:
        yield running


@pytest.fixture(scope="session")
def gateway(scripted, running_collector):
    """A gateway with two upstreams for one model, which are one server, and one that speaks Chat Completions."""
    upstreams = [
        ("openai", "first", f"{scripted.url}/first", "model-1"),
        ("openai", "second", f"{scripted.url}/second", "model-1"),
        ("chat", "chat", f"{scripted.url}/chat", "model-2"),
    ]
    with open_gateway(running_collector, upstreams, {"otel_propagate_to": "second, chat"}) as gateway:
        yield gateway


@pytest.fixture
def upstream(scripted):
    """The scripted upstream, which has forgotten what was before."""
    scripted.requests.clear()
    return scripted


@pytest.fixture
def collector(running_collector):
    running_collector.requests.clear()
    return running_collector


@pytest.fixture
def client(gateway):
    return ApiClient(gateway.url, gateway.key)
