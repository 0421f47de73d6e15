"""A gateway in front of the simulated Codex backend, and a client of the Messages API."""

import pytest

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
def codex_gateway(start_with_codex):
    """A gateway whose only upstream is the simulated Codex backend."""
    with start_with_codex("anthropic", "echo") as gateway:
        yield gateway


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
        gateway.add_upstream("anthropic", "one", scripted_upstream.url, key="sk-ant-operator")
        yield gateway


@pytest.fixture
def messages_upstream(scripted_upstream, messages_gateway):
    """The scripted upstream, which has forgotten what was before."""
    scripted_upstream.forget()
    return scripted_upstream
