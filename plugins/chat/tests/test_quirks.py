"""What servers do differently: the table of quirks, and what it changes in requests."""

import json

import pytest
from floway_chat.quirks import find_quirks, load_quirks

from floway_core.testing import RunningGateway

from .conftest import ChatClient
from .upstreams import add, as_json, model_list

ANSWER = as_json({"choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}]})
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
REQUEST = {
    "input": [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "developer", "content": "Be brief."},
    ],
    "max_output_tokens": 9,
    "metadata": {"a": "b"},
    "include": ["message.output_text.logprobs"],
    "tools": [{"type": "custom", "name": "patch"}, {"type": "function", "name": "f"}],
    "tool_choice": "required",
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
}


@pytest.fixture(scope="module")
def servers(server):
    """A gateway with one upstream for each kind of server, whose models have its name as prefix."""
    with RunningGateway(installed=["chat"]) as gateway:
        for name in load_quirks():
            add(gateway, name, server.url, "--model", "m", "--prefix", name, "--server", name)
        yield gateway


@pytest.fixture
def sent(servers, server):
    """Send a request to one kind of server; return the body that it gets."""
    server.forget()
    client = ChatClient(servers.url, servers.key)

    def send(name, **fields):
        server.script(ANSWER)
        answer = client.post({"model": f"{name}/m", "input": "Hi", **fields})
        assert answer.status == 200, answer.body
        return json.loads(server.requests[-1].body)

    return send


@pytest.mark.parametrize(
    ("name", "effort", "expected"),
    [
        ("default", "minimal", {"reasoning_effort": "minimal"}),
        ("openai", "xhigh", {"reasoning_effort": "xhigh"}),
        ("vllm", "minimal", {"reasoning_effort": "low"}),
        ("vllm", "none", {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        ("ollama", "xhigh", {"reasoning_effort": "high"}),
        ("ollama", "none", {"reasoning_effort": "none"}),
        ("llamacpp", "high", {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "high"}}),
        ("deepseek", "low", {"thinking": {"type": "enabled"}}),
        ("deepseek", "none", {"thinking": {"type": "disabled"}}),
        ("openrouter", "max", {"reasoning": {"effort": "xhigh"}}),
        ("mistral", "low", {"reasoning_effort": "high"}),
        ("groq", "medium", {"reasoning_effort": "medium", "reasoning_format": "parsed"}),
        ("default", "odd", {"reasoning_effort": "odd"}),
    ],
)
def test_the_effort_in_the_spelling_of_the_server(sent, name, effort, expected):
    body = sent(name, reasoning={"effort": effort})
    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == expected


def test_a_client_that_sets_the_template_itself(sent):
    body = sent("llamacpp", reasoning={"effort": "low"}, chat_template_kwargs={"enable_thinking": False, "x": 1})
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "reasoning_effort": "low", "x": 1}


@pytest.mark.parametrize("name", load_quirks())
def test_the_rest_of_the_table(sent, name):
    quirks = load_quirks()[name]
    body = sent(name, **REQUEST)
    assert body[quirks.max_tokens] == 9
    assert ("metadata" in body) is ("metadata" in quirks.fields)
    assert ("logprobs" in body) is ("logprobs" not in quirks.unsupported)
    assert body["tool_choice"] == quirks.required
    assert body["tools"][0]["type"] == ("custom" if quirks.custom_tools else "function")
    messages = body["messages"]
    assert messages[-1] == {"role": quirks.instructions, "content": "Be brief."}
    assistant = next(message for message in messages if message["role"] == "assistant")
    assert assistant == {
        "role": "assistant",
        "content": "Yes.",
        **({quirks.reasoning: "Hm."} if quirks.reasoning else {}),
    }
    if quirks.json_schema:
        assert body["response_format"]["json_schema"] == {"name": "n", "schema": SCHEMA}
    else:
        assert body["response_format"] == {"type": "json_object"}
        assert messages[0]["role"] == "system" and json.dumps(SCHEMA, separators=(",", ":")) in messages[0]["content"]


@pytest.mark.parametrize(
    ("base_url", "owners", "expected"),
    [
        ("https://api.openai.com/v1", [], "openai"),
        ("https://mine.openai.azure.com/openai/v1", [], "openai"),
        ("https://notopenai.azure.com/v1", [], "default"),
        ("http://127.0.0.1:8000/v1", [], "vllm"),
        ("http://10.0.0.7:8000/v1", ["llamacpp"], "llamacpp"),
        ("http://127.0.0.1:8080/v1", ["llamacpp"], "llamacpp"),
        ("http://127.0.0.1:9999/v1", ["vllm"], "vllm"),
        ("http://localhost:11434/v1", ["library"], "ollama"),
        ("https://api.deepseek.com", [], "deepseek"),
        ("https://openrouter.ai/api/v1", [], "openrouter"),
        ("https://api.mistral.ai/v1", [], "mistral"),
        ("https://api.groq.com/openai/v1", [], "groq"),
        ("https://example.com/v1", ["somebody"], "default"),
    ],
)
def test_a_server_is_recognised(base_url, owners, expected):
    assert find_quirks(base_url, owners).name == expected


def test_a_local_server_is_recognised_by_its_models(server):
    server.answer_always("/v1/models", model_list("m", owned_by="llamacpp"))
    with RunningGateway(installed=["chat"]) as gateway:
        add(gateway, "one", server.url)
        server.script(ANSWER)
        answer = ChatClient(gateway.url, gateway.key).create(model="m", reasoning={"effort": "none"})
        assert answer.status == 200, answer.body
        assert json.loads(server.requests[-1].body)["chat_template_kwargs"] == {"enable_thinking": False}
