"""Gateways in front of the simulated Codex backend and of a scripted upstream, and a client of Google's API."""

import pytest

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
def codex_gateway(start_with_codex):
    """A gateway whose only upstream is the simulated Codex backend."""
    with start_with_codex("echo", "gemini") as gateway:
        yield gateway


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
        gateway.add_upstream("gemini", "one", scripted_upstream.url, key="the-key-of-the-operator")
        yield gateway


@pytest.fixture
def gemini_upstream(scripted_upstream, gemini_gateway):
    """The scripted upstream, which has forgotten what was before."""
    scripted_upstream.forget()
    return scripted_upstream
