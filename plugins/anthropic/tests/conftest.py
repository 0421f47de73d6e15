"""A gateway in front of the simulated Codex backend, and a client of the Messages API."""

import json

import pytest
from floway_codex.simulator import Simulator

from floway_core.testing import ApiClient, FakeUpstream, RunningGateway

from . import wire

MODEL = "gpt-5.5"


class MessagesClient(ApiClient):
    """Sends requests as Anthropic's SDKs do."""

    def __init__(self, gateway, **headers):
        super().__init__(gateway.url, gateway.key, {"anthropic-version": "2023-06-01", **headers})
        del self.headers["authorization"]
        self.headers["x-api-key"] = gateway.key

    def create(self, *messages, model=MODEL, path="/v1/messages", **fields):
        messages = [
            message if isinstance(message, dict) else {"role": "user", "content": message} for message in messages
        ]
        return self.post({"model": model, "max_tokens": 4000, "messages": messages, **fields}, path)


@pytest.fixture(scope="session")
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture(scope="session")
def codex_gateway(simulator):
    """A gateway whose only upstream is the simulated Codex backend."""
    urls = {"codex_base_url": simulator.base_url, "codex_auth_url": simulator.auth_url}
    settings = {**urls, "codex_transport": "http"}
    with RunningGateway(settings, installed=["anthropic", "codex", "echo"]) as gateway:
        file = gateway.folder / "auth.json"
        file.write_text(json.dumps(simulator.new_account()))
        done = gateway.run("codex", "import", str(file))
        assert done.returncode == 0, done.stderr
        yield gateway


@pytest.fixture
def backend(simulator):
    """The simulated backend, which has forgotten what was before."""
    simulator.clear()
    yield simulator
    assert simulator.findings == [], "over all its requests the session looks wrong"


@pytest.fixture
def client(codex_gateway, backend):
    return MessagesClient(codex_gateway)


@pytest.fixture(scope="session")
def scripted_upstream():
    with FakeUpstream() as running:
        running.answer_always("/v1/models", wire.model_list("claude-test", "claude-other"))
        yield running


@pytest.fixture(scope="session")
def messages_gateway(scripted_upstream):
    """A gateway whose only upstream is a scripted one with the Messages API."""
    with RunningGateway(installed=["anthropic"]) as gateway:
        options = ("--base-url", scripted_upstream.url, "--key-file", "-", "--no-test")
        done = gateway.run("upstreams", "add", "anthropic", "one", *options, typed="sk-ant-operator")
        assert done.returncode == 0, done.stderr
        yield gateway


@pytest.fixture
def messages_upstream(scripted_upstream, messages_gateway):
    """The scripted upstream, which has forgotten what was before."""
    scripted_upstream.forget()
    return scripted_upstream
