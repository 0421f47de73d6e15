"""A gateway in front of the simulated Codex backend, and a client of the Messages API."""

import json

import pytest
from floway_codex.simulator import Simulator

from floway_core.testing import ApiClient, RunningGateway

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
        return self.post({"model": model, "max_tokens": 1000, "messages": messages, **fields}, path)


@pytest.fixture(scope="session")
def simulator():
    with Simulator() as running:
        yield running


@pytest.fixture(scope="session")
def codex_gateway(simulator):
    """A gateway whose only upstream is the simulated Codex backend."""
    settings = {"codex_base_url": simulator.base_url, "codex_auth_url": simulator.auth_url}
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
