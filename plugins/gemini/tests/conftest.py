"""Gateways in front of the simulated Codex backend and of a scripted upstream, and a client of Google's API."""

import contextlib
import json

import pytest
from floway_codex.simulator import Simulator

from floway_core.testing import ApiClient, FakeUpstream, RunningGateway

from . import wire

MODEL = "gpt-5.5"


class GeminiClient(ApiClient):
    """Sends requests as Google's SDKs do."""

    def __init__(self, gateway, **headers):
        super().__init__(gateway.url, gateway.key, {"x-goog-api-client": "google-genai-sdk/3", **headers})
        del self.headers["authorization"]
        self.headers["x-goog-api-key"] = gateway.key

    def generate(self, *contents, model=MODEL, stream=False, alt="sse", version="v1beta", **fields):
        """Send texts of the user, or contents."""
        contents = [
            content if isinstance(content, dict) else {"role": "user", "parts": [{"text": content}]}
            for content in contents
        ]
        verb = ("streamGenerateContent" + (f"?alt={alt}" if alt else "")) if stream else "generateContent"
        return self.post({"contents": contents, **fields}, f"/{version}/models/{model}:{verb}")


@pytest.fixture(scope="session")
def simulator():
    with Simulator() as running:
        yield running


@contextlib.contextmanager
def run_codex_gateway(simulator):
    """A gateway whose only upstream is the simulated Codex backend."""
    urls = {"codex_base_url": simulator.base_url, "codex_auth_url": simulator.auth_url}
    settings = {**urls, "codex_transport": "http"}  # the tests look at whole requests
    with RunningGateway(settings, installed=["codex", "echo", "gemini"]) as gateway:
        file = gateway.folder / "auth.json"
        file.write_text(json.dumps(simulator.new_account()))
        done = gateway.run("codex", "import", str(file))
        assert done.returncode == 0, done.stderr
        yield gateway


@pytest.fixture(scope="session")
def codex_gateway(simulator):
    with run_codex_gateway(simulator) as gateway:
        yield gateway


@pytest.fixture
def backend(simulator):
    """The simulated backend, which has forgotten what was before."""
    simulator.clear()
    yield simulator
    assert simulator.findings == [], "over all its requests the session looks wrong"


@pytest.fixture
def client(codex_gateway, backend):
    return GeminiClient(codex_gateway)


@pytest.fixture(scope="session")
def scripted_upstream():
    with FakeUpstream() as running:
        running.answer_always("/v1beta/models", wire.model_list("gemini-test", "gemini-3-test", "gemini-simple"))
        yield running


@pytest.fixture(scope="session")
def gemini_gateway(scripted_upstream):
    """A gateway whose only upstream is a scripted one with the generateContent API."""
    with RunningGateway(installed=["gemini"]) as gateway:
        options = ("--base-url", scripted_upstream.url, "--key-file", "-", "--no-test")
        done = gateway.run("upstreams", "add", "gemini", "one", *options, typed="the-key-of-the-operator")
        assert done.returncode == 0, done.stderr
        yield gateway


@pytest.fixture
def gemini_upstream(scripted_upstream, gemini_gateway):
    """The scripted upstream, which has forgotten what was before."""
    scripted_upstream.forget()
    return scripted_upstream
