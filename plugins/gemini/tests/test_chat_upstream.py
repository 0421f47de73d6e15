"""Clients of the generateContent API on an upstream that speaks Chat Completions."""

import json

import pytest

from floway_core.testing import FakeUpstream, Reply, RunningGateway

from .conftest import GeminiClient

TOOLS = [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}]


@pytest.fixture(scope="module")
def upstream():
    with FakeUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def client(upstream):
    with RunningGateway(installed=["chat", "gemini"]) as gateway:
        options = ("--model", "deep-1", "--server", "deepseek")
        gateway.add_upstream("chat", "one", f"{upstream.url}/v1", *options)
        yield GeminiClient(gateway)


def chat_stream(*deltas, finish_reason="stop"):
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}], "usage": usage})
    written = [
        json.dumps({"id": "c", "object": "chat.completion.chunk", "model": "deep-1", **chunk}) for chunk in chunks
    ]
    return Reply([f"data: {chunk}\n\n".encode() for chunk in [*written, "[DONE]"]])


def test_a_tool_loop_with_raw_reasoning(client, upstream):
    upstream.forget()
    function = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    upstream.script(
        chat_stream(
            {"reasoning_content": "Hm"},
            {"reasoning_content": "."},
            {"tool_calls": [function]},
            finish_reason="tool_calls",
        ),
        chat_stream({"content": "Do"}, {"content": "ne."}),
    )
    config = {"thinkingConfig": {"includeThoughts": True}, "temperature": 1, "topP": 0.95, "topK": 64}
    pieces = client.generate("Hi", model="deep-1", stream=True, tools=TOOLS, generationConfig=config).events()
    parts = [part for piece in pieces for part in piece["candidates"][0]["content"]["parts"]]
    assert "".join(part["text"] for part in parts if part.get("thought")) == "Hm."
    (call,) = [part for part in parts if "functionCall" in part]
    assert call["functionCall"] == {"id": "call_1", "name": "f", "args": {"a": 1}} and call["thoughtSignature"]
    result = {"functionResponse": {"name": "f", "id": "call_1", "response": {"output": "x"}}}
    kept = [part for part in parts if not part.get("thought")]
    history = ["Hi", {"role": "model", "parts": kept}, {"role": "user", "parts": [result]}]
    answer = client.generate(*history, model="deep-1", tools=TOOLS, generationConfig=config).json()
    assert answer["candidates"][0]["content"]["parts"] == [{"text": "Done."}]
    assert answer["usageMetadata"]["promptTokenCount"] == 7
    sent = json.loads(upstream.requests[-1].body)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["reasoning_content"] == "Hm." and sent["top_p"] == 0.95


def test_a_search_is_refused(client, upstream):
    """Made-up results would be worse."""
    upstream.forget()
    refused = client.generate("Hi", model="deep-1", tools=[{"googleSearch": {}}])
    assert refused.status == 400 and "googleSearch" in refused.json()["error"]["message"]
    assert upstream.requests == []
