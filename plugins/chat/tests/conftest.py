"""Gateways with the chat door, in front of a scripted upstream and of the simulated Codex backend; and clients."""

import pytest

from floway_core.storage import upstreams
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, FakeUpstream, RunningGateway, write_plugin

from .upstreams import add

RESPONSES_PLUGIN = '''"""A provider for tests: sends the Responses body to the upstream that the test names."""

from floway_core.hookspecs import hookimpl
from floway_core.protocol import jsontext
from floway_core.provider import Model, Provider
from floway_core.upstream import HttpClient


class Wire(Provider):
    kind = "wire"

    def __init__(self, services):
        self._client = HttpClient(services.settings)

    def list_models(self, upstream):
        return [Model("model-1", "wire")]

    def send(self, ctx):
        url = ctx.attempt.request.headers["x-test-upstream"]
        headers = {"content-type": "application/json"}
        return self._client.stream(ctx, "POST", f"{url}/responses", headers, jsontext.dumps(ctx.body))


@hookimpl
def register_providers(services):
    return [Wire(services)]


@hookimpl
def prepare_responses_request(ctx):
    ctx.headers["content-type"] = "application/json"
'''

CHAT_PATH = "/v1/chat/completions"


class ChatClient(ApiClient):
    """A client that speaks Chat Completions."""

    def chat(self, messages="Hi", *, model="model-1", **fields):
        """Request a completion. A text is one message of the user."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self.post({"model": model, "messages": messages, **fields}, CHAT_PATH)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """A gateway with one upstream that speaks Responses."""
    folder = tmp_path_factory.mktemp("plugins")
    write_plugin(folder, "wire", RESPONSES_PLUGIN)
    with RunningGateway(installed=["chat"], plugin_folders=[folder]) as running:
        database = connect(f"sqlite:///{running.database}")
        upstreams.add(database, "wire", "first")
        database.close_all()
        yield running


@pytest.fixture
def upstream():
    """An upstream for one test."""
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def client(gateway, upstream):
    """A client whose requests reach the upstream of the test. No test may leave a traceback in the log."""
    before = len(gateway.log)
    yield ChatClient(gateway.url, gateway.key, {"x-test-upstream": upstream.url})
    assert "Traceback" not in gateway.log[before:]


# ------------------------------------------------------------------------------------------------------ Codex backend
@pytest.fixture(scope="module")
def running(start_with_codex):
    """A gateway in front of it."""
    with start_with_codex("chat") as gateway:
        yield gateway


# -------------------------------------------------------------------------------------------------------- chat server
@pytest.fixture(scope="module")
def server():
    """A chat server, to be scripted."""
    with FakeUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def chat_gateway(server):
    """A gateway with this server as its only upstream."""
    with RunningGateway(installed=["chat"]) as running:
        add(running, "one", server.url, "--model", "model-1")
        yield running


@pytest.fixture
def caller(chat_gateway, server):
    """A client of either API; nothing is recorded and scripted at first."""
    server.forget()
    before = len(chat_gateway.log)
    yield ChatClient(chat_gateway.url, chat_gateway.key)
    assert "Traceback" not in chat_gateway.log[before:]
