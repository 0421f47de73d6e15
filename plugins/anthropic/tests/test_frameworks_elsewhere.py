"""Vercel's AI SDK, LangChain and Anthropic's SDK, through the gateway to scripted upstreams: Messages, and chat."""

import json
import shutil
from pathlib import Path

import anthropic
import pytest

from floway_core.testing import Reply

from . import wire
from .test_chat_upstream import MODEL as CHAT_MODEL
from .test_chat_upstream import chat_gateway, chat_server, chat_stream, server  # noqa: F401 - fixtures
from .test_frameworks import AI_SDK, CLIENTS, LANGCHAIN, run

LOOK = wire.think("I look."), wire.call("weather", {"city": "Ulm"})
SUNNY, HELLO, CITY = (wire.say("It is sunny."),), (wire.say("Hello there."),), (wire.say('{"name": "Ulm"}'),)


class MessagesBackend:
    """A scripted upstream with the Messages API, whose answers are passed through."""

    model = "claude-test"

    def __init__(self, gateway, upstream):
        self.gateway, self.upstream = gateway, upstream

    def script(self, blocks, stream):
        self.upstream.script(wire.stream(*blocks) if stream else wire.as_json(wire.whole(*blocks)))

    def refuse(self):
        self.upstream.script(wire.error(400, "invalid_request_error", "The weather is not supported."))

    def requests(self):
        return [json.loads(request.body) for request in self.upstream.requests if request.method == "POST"]


class ChatBackend(MessagesBackend):
    """A scripted chat server, for which requests are translated."""

    model = CHAT_MODEL

    def script(self, blocks, stream):
        by_type = {block["type"]: block for block in blocks}
        text, thought = by_type.get("text", {}).get("text", ""), by_type.get("thinking", {}).get("thinking", "")
        calls = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
        self.upstream.script(Reply(chat_stream(text, thought, calls)))

    def refuse(self):
        error = {"message": "The weather is not supported.", "type": "invalid_request_error", "code": None}
        self.upstream.script(wire.as_json({"error": error}, 400))


@pytest.fixture(params=["messages", "chat"])
def elsewhere(request):
    names = {"messages": ("messages_gateway", "messages_upstream"), "chat": ("chat_gateway", "server")}
    kind = {"messages": MessagesBackend, "chat": ChatBackend}[request.param]
    return kind(*map(request.getfixturevalue, names[request.param]))


@pytest.mark.skipif(not AI_SDK, reason="FLOWAY_TEST_AI_SDK is not set: `make test-clients` installs it")
def test_the_ai_sdk(elsewhere):
    for blocks, stream in ((LOOK, False), (SUNNY, False), (HELLO, True), (CITY, False)):
        elsewhere.script(blocks, stream)
    elsewhere.refuse()
    script = Path(AI_SDK) / "client.mjs"
    shutil.copy(CLIENTS / "ai_sdk.mjs", script)
    got = run(elsewhere.gateway, "node", script, model=elsewhere.model)
    assert (got["asked"], got["text"], got["steps"], got["finish"]) == (["Ulm"], "It is sunny.", 2, "stop")
    assert got["reasoning"] == "I look." and got["streamed"] == "Hello there." and got["object"] == {"name": "Ulm"}
    assert got["refused"]["status"] == 400 and "The weather" in got["refused"]["message"]


@pytest.mark.skipif(not LANGCHAIN, reason="FLOWAY_TEST_LANGCHAIN is not set: `make test-clients` installs it")
def test_langchain(elsewhere):
    for blocks, stream in ((LOOK, False), (SUNNY, False), (HELLO, True), (CITY, False)):
        elsewhere.script(blocks, stream)
    got = run(elsewhere.gateway, LANGCHAIN, CLIENTS / "langchain_client.py", model=elsewhere.model)
    assert got["calls"] == [["weather", {"city": "Ulm"}]] and got["object"] == "Ulm"
    assert (got["answer"], got["streamed"]) == ("It is sunny.", "Hello there.")


def test_anthropics_sdk(elsewhere):
    sdk = anthropic.Anthropic(
        base_url=elsewhere.gateway.url,
        api_key=elsewhere.gateway.key,
        max_retries=0,
        _strict_response_validation=True,
    )

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        return f"Sunny in {city}"

    arguments = {"model": elsewhere.model, "max_tokens": 4000, "messages": [{"role": "user", "content": "Hi"}]}
    elsewhere.script(LOOK[1:], False)
    elsewhere.script(SUNNY, False)
    runner = sdk.beta.messages.tool_runner(**arguments, tools=[weather])
    assert runner.until_done().content[0].text == "It is sunny."
    assert "Sunny in Ulm" in json.dumps(elsewhere.requests()[-1]["messages"])
    elsewhere.script(HELLO, True)
    with sdk.messages.stream(**arguments) as stream:
        assert "".join(stream.text_stream) == "Hello there."
        assert stream.get_final_message().usage.output_tokens > 0
