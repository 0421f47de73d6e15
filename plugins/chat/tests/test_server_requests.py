"""What a chat server gets of a Responses request."""

import json

import pytest

from floway_core.testing import Reply

from .server_streams import CASES
from .upstreams import as_json

ANSWER = as_json({"choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}]})
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"type": "function", "name": "weather", "description": "It knows.", "parameters": PARAMETERS}
CHAT_FUNCTION = {
    "type": "function",
    "function": {"name": "weather", "parameters": PARAMETERS, "description": "It knows."},
}
PATCH = {
    "type": "custom",
    "name": "patch",
    "description": "Patches.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
}
USER = {"role": "user", "content": "Hi"}


@pytest.fixture
def received(caller, server):
    """The body that the server gets for a request that has to succeed, and the fields that are told as ignored."""

    def request(input="Hi", *, model="model-1", **fields):
        server.script(ANSWER)
        answer = caller.create(input, model=model, **fields)
        assert answer.status == 200, answer.body
        request.ignored = answer.headers.get("x-floway-ignored", "").split(", ")
        return json.loads(server.requests[-1].body)

    return request


def test_the_path_and_the_headers(caller, server, received):
    received()
    request = server.requests[-1]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.header("authorization") == "Bearer sk-the-operators"
    assert request.header("accept") == "application/json" and request.header("user-agent").startswith("floway-chat/")


@pytest.mark.parametrize(
    ("fields", "expected", "ignored"),
    [
        ({}, {}, []),
        (
            {"max_output_tokens": 9, "temperature": 0.5, "top_p": 0.1},
            {"max_tokens": 9, "temperature": 0.5, "top_p": 0.1},
            [],
        ),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presence_penalty": 1, "frequency_penalty": -1}, []),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}, ["reasoning.summary"]),
        ({"text": {"format": {"type": "text"}}}, {}, []),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}, []),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": PARAMETERS, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": PARAMETERS, "strict": True},
                }
            },
            [],
        ),
        ({"text": {"verbosity": "low"}}, {}, ["text.verbosity"]),
        ({"tools": [FUNCTION]}, {"tools": [CHAT_FUNCTION]}, []),
        (
            {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False},
            {"tools": [CHAT_FUNCTION], "tool_choice": "required", "parallel_tool_calls": False},
            [],
        ),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "weather"}},
            {"tools": [CHAT_FUNCTION], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            [],
        ),
        (
            {
                "tools": [FUNCTION, {**FUNCTION, "name": "news"}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "weather"}],
                },
            },
            {"tools": [CHAT_FUNCTION], "tool_choice": "required"},
            [],
        ),
        (
            {"tools": [{"type": "web_search"}, FUNCTION, {"type": "tool_search"}], "tool_choice": "auto"},
            {"tools": [CHAT_FUNCTION], "tool_choice": "auto"},
            ["tools[0]", "tools[2]"],
        ),
        ({"tools": [{"type": "web_search"}], "parallel_tool_calls": True, "tool_choice": "auto"}, {}, ["tools[0]"]),
        (
            {"tools": [{"type": "namespace", "name": "mcp", "tools": [FUNCTION]}]},
            {"tools": [{**CHAT_FUNCTION, "function": {**CHAT_FUNCTION["function"], "name": "mcp__weather"}}]},
            [],
        ),
        (
            {
                "include": ["reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results"],
                "top_logprobs": 2,
            },
            {"logprobs": True, "top_logprobs": 2},
            ["include"],
        ),
        ({"seed": 7, "stop": ["x"], "top_k": 3, "client_metadata": {}}, {"seed": 7, "stop": ["x"], "top_k": 3}, []),
        (
            {"truncation": "auto", "user": "u", "prompt_cache_key": "k", "service_tier": "flex", "max_tool_calls": 2},
            {},
            ["max_tool_calls", "truncation", "prompt_cache_key", "service_tier", "user"],
        ),
    ],
)
def test_fields(received, fields, expected, ignored):
    assert received(**fields) == {"model": "model-1", "messages": [USER], **expected}
    assert received.ignored == (ignored or [""])


def test_a_stream_asks_for_the_usage(caller, server):
    server.script(Reply(CASES["openai"].chunks))
    assert caller.stream().events()[-1]["type"] == "response.completed"
    body = json.loads(server.requests[-1].body)
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}


def message(role, text, type="input_text"):
    return {"type": "message", "role": role, "content": [{"type": type, "text": text}]}


def call(id, name="weather", arguments="{}"):
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments}


def output(id, value):
    return {"type": "function_call_output", "call_id": id, "output": value}


def chat_call(id, name="weather", arguments="{}"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat_turn(id):
    return {"role": "assistant", "content": None, "tool_calls": [chat_call(id)]}


def chat_output(id, content):
    return {"role": "tool", "tool_call_id": id, "content": content}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (
            [message("developer", "Be nice."), message("system", "Be brief."), message("user", "Hi")],
            [{"role": "system", "content": "Be nice.\n\nBe brief."}, USER],
        ),
        (
            [message("user", "Hi"), message("developer", "Be brief.")],
            [USER, {"role": "system", "content": "Be brief."}],
        ),
        (
            [
                message("user", "Hi"),
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                message("assistant", "I ", "output_text"),
                message("assistant", "look.", "output_text"),
                call("a"),
                call("b"),
                output("a", "sun"),
                output("b", [{"type": "input_text", "text": "ra"}, {"type": "input_text", "text": "in"}]),
                message("assistant", "Done.", "output_text"),
            ],
            [
                USER,
                {"role": "assistant", "content": "I look.", "tool_calls": [chat_call("a"), chat_call("b")]},
                chat_output("a", "sun"),
                chat_output("b", "rain"),
                {"role": "assistant", "content": "Done."},
            ],
        ),
        (
            [call("a"), message("developer", "Between."), output("a", "sun")],
            [chat_turn("a"), chat_output("a", "sun"), {"role": "system", "content": "Between."}],
        ),
        (  # Semantic Kernel continues a response, and sends the outputs that it holds again
            [call("a"), output("a", "one"), message("user", "Hi"), output("a", "one"), call("b"), output("b", "two")],
            [chat_turn("a"), chat_output("a", "one"), USER, chat_turn("b"), chat_output("b", "two")],
        ),
        (
            [call("a"), output("a", "one"), call("a"), output("a", "two")],
            [chat_turn("a"), chat_output("a", "one"), chat_turn("a"), chat_output("a", "two")],
        ),
        (
            [
                call("a"),
                output("a", [{"type": "input_text", "text": "See:"}, {"type": "input_image", "image_url": "data:x"}]),
            ],
            [
                chat_turn("a"),
                chat_output("a", "See:"),
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
            ],
        ),
        (
            [call("a"), output("a", [{"type": "input_file", "filename": "a.pdf", "file_data": "data:x"}])],
            [
                chat_turn("a"),
                chat_output("a", ""),
                {"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x"}}]},
            ],
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x", "detail": "original"}]}],
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:x", "detail": "high"}}],
                }
            ],
        ),
        ([{"role": "user", "content": []}], [{"role": "user", "content": ""}]),
        (
            [
                {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "*** é"},
                {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
            ],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [chat_call("a", "patch", '{"input": "*** é"}')],
                },
                chat_output("a", "ok"),
            ],
        ),
        ([{**call("a"), "namespace": "mcp"}, output("a", "x")], None),
        (
            [
                {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
                {"type": "reasoning", "summary": [], "encrypted_content": "BLOB"},
                message("user", "Hi"),
            ],
            [USER],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Look"},
                        {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
                        {"type": "input_file", "filename": "a.pdf", "file_data": "data:x"},
                        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                    ],
                }
            ],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look"},
                        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "high"}},
                        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:x"}},
                        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                    ],
                }
            ],
        ),
    ],
)
def test_messages(received, items, expected):
    messages = received(items)["messages"]
    if expected is None:
        assert messages[0]["tool_calls"][0]["function"]["name"] == "mcp__weather"
    else:
        assert messages == expected


def test_instructions_come_first(received):
    messages = received([message("developer", "Then this."), message("user", "Hi")], instructions="First this.")[
        "messages"
    ]
    assert messages == [{"role": "system", "content": "First this.\n\nThen this."}, USER]


def test_a_history_that_the_gateway_has_stored(caller, server, received):
    server.script(ANSWER)
    first = caller.create("Hi").json()
    messages = received("And?", previous_response_id=first["id"])["messages"]
    assert messages == [USER, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And?"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tool_choice": {"type": "web_search"}, "tools": [{"type": "web_search"}]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "nobody"}, "tools": [FUNCTION]}, "tool_choice"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}]},
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
            "input[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(caller, server, fields, param):
    answer = caller.post({"model": "model-1", "input": "Hi", **fields})
    assert answer.status == 400 and answer.json()["error"]["param"] == param
    assert not server.requests


def test_a_custom_tool_is_a_function_for_the_server(caller, server):
    """And a custom tool again for the client."""
    arguments = json.dumps({"input": "*** Begin\n+é"})
    calls = [{"id": "call_a", "type": "function", "function": {"name": "patch", "arguments": arguments}}]
    server.script(as_json({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}))
    answer = caller.create(tools=[PATCH]).json()
    (tool,) = json.loads(server.requests[-1].body)["tools"]
    assert tool["function"]["parameters"]["required"] == ["input"] and "start: x" in tool["function"]["description"]
    (item,) = answer["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "patch", "*** Begin\n+é")


def test_a_function_of_a_namespace_comes_back_with_it(caller, server):
    calls = [{"id": "call_a", "type": "function", "function": {"name": "mcp__weather", "arguments": "{}"}}]
    server.script(as_json({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}))
    (item,) = caller.create(tools=[{"type": "namespace", "name": "mcp", "tools": [FUNCTION]}]).json()["output"]
    assert (item["name"], item["namespace"]) == ("weather", "mcp")


def test_a_compaction_is_a_summary_by_the_model(caller, server, received):
    server.script(as_json({"choices": [{"message": {"content": "We said hello."}, "finish_reason": "stop"}]}))
    compacted = caller.post({"model": "model-1", "input": [message("user", "Hi")]}, "/v1/responses/compact")
    assert compacted.status == 200, compacted.body
    messages = received([*compacted.json()["output"], message("user", "And?")])["messages"]
    assert "We said hello." in json.dumps(messages) and messages[-1]["content"] == "And?"


def test_the_tools_of_the_codex_cli(caller, server):
    """For some models it has them in an item, and there a custom tool in the default namespace."""
    namespaces = [
        {"type": "namespace", "name": "functions", "description": "", "tools": [PATCH, {**FUNCTION, "name": "wait"}]},
        {"type": "namespace", "name": "clock", "tools": [{**FUNCTION, "name": "sleep"}, {**PATCH, "name": "run"}]},
        {"type": "web_search"},
    ]
    history = [
        {"type": "additional_tools", "role": "developer", "tools": namespaces},
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{**FUNCTION, "name": "wait", "description": "New."}],
        },
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        USER,
    ]
    calls = [("patch", '{"input": "*** x"}'), ("wait", "{}"), ("clock__sleep", "{}"), ("clock__run", '{"input": "y"}')]
    functions = [
        {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in calls
    ]
    message = {"content": None, "tool_calls": functions}
    answer = as_json({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    server.script(answer, ANSWER)
    answer = caller.create(history)
    output = answer.json()["output"]
    assert [(item["type"], item.get("namespace"), item["name"]) for item in output] == [
        ("custom_tool_call", None, "patch"),
        ("function_call", None, "wait"),
        ("function_call", "clock", "sleep"),
        ("custom_tool_call", "clock", "run"),
    ]
    assert (output[0]["input"], output[3]["input"]) == ("*** x", "y")
    sent = json.loads(server.requests[-1].body)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [tool["function"]["name"] for tool in sent["tools"]] == [name for name, _ in calls]
    assert sent["tools"][1]["function"]["description"] == "New."
    assert answer.headers["x-floway-ignored"] == "input[0].tools[2]"
    outputs = [
        {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": "done"}
        for item in answer.json()["output"]
    ]
    assert caller.create([*history, *output, *outputs]).status == 200
    (turn,) = [turn for turn in json.loads(server.requests[-1].body)["messages"] if turn["role"] == "assistant"]
    assert [call["function"]["name"] for call in turn["tool_calls"]] == [name for name, _ in calls]
