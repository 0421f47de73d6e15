"""Translating requests of the Messages API to those of the Responses API."""

import copy
import json

import pytest
from floway_anthropic.client.events import MessageEvents
from floway_anthropic.client.requests import read_request
from floway_anthropic.client.view import ClientView

from floway_core.dialect import DialectRequest
from floway_core.errors import GatewayError
from floway_core.protocol.items import START, extended_hash
from floway_core.testing.events import items_stream, message_item

from .test_events import REASONING, content_of, parse

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def request(body, **headers):
    return DialectRequest("POST", "/v1/messages", {}, {}, headers, body)


def read(*messages, **fields):
    body = {"model": "m", "max_tokens": 100, "messages": list(messages) or [user("Hi")], **fields}
    return read_request(request(body))


def user(*content):
    return {
        "role": "user",
        "content": content[0] if len(content) == 1 and isinstance(content[0], str) else list(content),
    }


def assistant(*content):
    return {**user(*content), "role": "assistant"}


def text(value, **fields):
    return {"type": "text", "text": value, **fields}


def part(value):
    return {"type": "input_text", "text": value}


# ----------------------------------------------------------------------------------------------------------- fields
def test_a_plain_request():
    converted = read(user("Hi"), system="Be brief.", temperature=0.5, top_p=0.9, stream=True)
    assert converted.body == {
        "model": "m",
        "stream": True,
        "input": [{"type": "message", "role": "user", "content": [part("Hi")]}],
        "instructions": "Be brief.",
        "max_output_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "include": ["reasoning.encrypted_content"],
    }
    assert converted.stream and converted.untranslatable is None


def test_the_system_prompt_of_claude_code():
    system = [
        text("x-anthropic-billing-header: cch=1;"),
        text("One.", cache_control={"type": "ephemeral"}),
        text("Two."),
    ]
    assert read(system=system).body["instructions"] == "One.\n\nTwo."


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"thinking": {"type": "adaptive"}}, {"summary": "auto"}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, {"effort": "max", "summary": "auto"}),
        ({"thinking": {"type": "disabled"}}, {"effort": "none"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"effort": "low", "summary": "auto"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, {"effort": "medium", "summary": "auto"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999, "display": "omitted"}}, {"effort": "high"}),
        ({"output_config": {"effort": "low"}}, {"effort": "low"}),
    ],
)
def test_thinking(fields, expected):
    converted = read(**fields)
    assert converted.body.get("reasoning") == expected
    assert converted.restores_reasoning


@pytest.mark.parametrize("field", ["format", "output_format"])
def test_structured_output(field):
    strict = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    loose = {**strict, "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    for schema, is_strict in ((strict, True), (loose, False)):
        output = {"type": "json_schema", "schema": schema}
        fields = {"output_config": {"format": output}} if field == "format" else {field: output}
        converted = read(**fields).body["text"]["format"]
        assert converted == {"type": "json_schema", "name": "output", "schema": schema, "strict": is_strict}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "name": "f"}}),
        ({"type": "tool", "name": "web_search"}, {"tool_choice": {"type": "web_search"}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"tool_choice": "auto", "parallel_tool_calls": False}),
    ],
)
def test_tools(choice, expected):
    tools = [
        {
            "name": "f",
            "description": "Does.",
            "input_schema": {"type": "object"},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "web_search_20260209", "name": "web_search", "max_uses": 8, "allowed_domains": ["a.example"]},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
    ]
    body = read(tools=tools, tool_choice=choice).body
    assert body["tools"][0] == {
        "type": "function",
        "name": "f",
        "description": "Does.",
        "parameters": {"type": "object"},
        "strict": False,
    }
    assert body["tools"][1] == {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}}
    assert (body["tools"][2]["name"], len(body["tools"])) == ("bash", 3)
    assert "web_search_call.action.sources" in body["include"]
    assert {name: body[name] for name in expected} == expected


# --------------------------------------------------------------------------------------------------------- messages
def test_blocks_of_the_user():
    blocks = [
        text("Look:"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
        {
            "type": "document",
            "title": "T",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Plain."}},
    ]
    (item,) = read(user(*blocks)).body["input"]
    assert item["content"] == [
        part("Look:"),
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
        {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "auto"},
        part("Document: T"),
        {"type": "input_file", "filename": "T", "file_data": "data:application/pdf;base64,JVBERg=="},
        part("Plain."),
    ]


def test_tools_and_their_results():
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": "\u00fc"}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Done."},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("No."), text("Not.")], "is_error": True},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("See"), image]},
        {"type": "tool_result", "tool_use_id": "toolu_1"},
    ]
    items = read(user("Hi"), assistant(text("I call."), call), user(*results, text("Go on."))).body["input"]
    assert items[1] == {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I call."}]}
    assert items[2] == {"type": "function_call", "call_id": "toolu_1", "name": "f", "arguments": '{"b":1,"a":"\u00fc"}'}
    outputs = [item["output"] for item in items[3:7]]
    assert outputs[:2] == ["Done.", "Error: No.\nNot."] and outputs[3] == ""
    assert [one["type"] for one in outputs[2]] == ["input_text", "input_image"]
    assert items[7]["content"] == [part("Go on.")]


def test_instructions_in_the_middle():
    items = read(user("Hi"), {"role": "system", "content": "Now this."}, user("Go")).body["input"]
    assert [item["role"] for item in items] == ["user", "developer", "user"]


# ---------------------------------------------------------------------------------------------- what comes back again
def round_trip(output, **view):
    """The items that a client sends back after it has received ``output`` as a stream."""
    blocks = content_of(parse(MessageEvents(ClientView("m", **view), "r").feed(b"".join(items_stream(output)))))
    return read(user("Hi"), {"role": "assistant", "content": blocks}, user("Go on")).body["input"][1:-1]


SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://a.example/"}]},
}


@pytest.mark.parametrize("text_shown", [True, False])
def test_an_answer_comes_back_as_it_was(text_shown):
    bare = {"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "other"}
    plain = {"id": "rs_3", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"b":1,"a":[{}]}'}
    output = [REASONING, message_item("A"), SEARCH, bare, message_item("B"), plain, call]
    back = round_trip(output, shows_thinking_text=text_shown)
    recognised = len(output) if text_shown else output.index(plain)  # which has nothing but its text
    assert extended_hash(START, back[:recognised]) == extended_hash(START, output[:recognised])
    reasoning = [item for item in back if item["type"] == "reasoning"]
    assert [item["id"] for item in reasoning] == ["rs_1", "rs_2", "rs_3"]
    assert [item.get("encrypted_content") for item in reasoning] == ["sealed", "other", None]
    assert next(item for item in back if item["type"] == "web_search_call")["id"] == "ws_1"


def test_marks_that_move_do_not_matter():
    def marked(position):
        messages = [user(text("A")), assistant(text("B")), user(text("C"))]
        messages[position]["content"][0]["cache_control"] = {"type": "ephemeral"}
        return read(*messages, cache_control={"type": "ephemeral"}).body

    assert marked(0) == marked(1) == marked(2)


def broken_signatures():
    blocks = content_of(parse(MessageEvents(ClientView("m"), "r").feed(b"".join(items_stream([REASONING])))))
    signature = blocks[0]["signature"]
    return [
        "EqQBCgIYAh",
        "",
        signature[:-1],
        signature + "A",
        signature.replace("floway", "Floway"),
        "floway.1.reasoning.x",
    ]


@pytest.mark.parametrize("signature", broken_signatures())
@pytest.mark.parametrize("block", ["thinking", "redacted_thinking"])
def test_signatures_that_floway_did_not_make_are_left_out(signature, block):
    fields = {"thinking": "Hm.", "signature": signature} if block == "thinking" else {"data": signature}
    items = read(user("Hi"), assistant({"type": block, **fields}, text("A")), user("B")).body["input"]
    assert [item["type"] for item in items] == ["message"] * 3


# --------------------------------------------------------------------------------------------------------- sessions
@pytest.mark.parametrize(
    ("headers", "user_id", "expected"),
    [
        ({}, None, None),
        ({}, "user_7", None),
        ({"x-claude-code-session-id": "abc"}, '{"session_id": "def"}', "abc"),
        ({}, '{"device_id": "d", "account_uuid": "", "session_id": "def"}', "def"),
        ({}, "user_0f_account_1_session_a-b-c", "a-b-c"),
        ({}, '{"session_id": 7}', None),
    ],
)
def test_what_identifies_the_conversation(headers, user_id, expected):
    body = {"model": "m", "max_tokens": 1, "messages": [user("Hi")], "metadata": {"user_id": user_id}}
    assert read_request(request(body, **headers)).conversation_hint == expected


# ------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user("a"), user(text(7))]}, "messages[1].content[0].text"),
        ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
        ({"messages": [user({"type": "tool_result"})]}, "messages[0].content[0].tool_use_id"),
        ({"system": 7}, "system"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "x"}, "tools": [{"name": "f", "input_schema": {}}]}, "tool_choice.type"),
        ({"temperature": 1.5}, "temperature"),
        ({"thinking": {"type": "x"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"output_config": {"effort": "x"}}, "output_config.effort"),
        ({"thread": {"type": "create"}}, "thread"),
    ],
)
def test_faults_name_the_field(change, param):
    body = {"model": "m", "max_tokens": 10, "messages": [user("Hi")], **change}
    try:
        error = read_request(request(body)).untranslatable  # for upstreams without the Messages API
    except GatewayError as caught:  # for all
        error = caught
    assert error and (error.status, error.param) == (400, param)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}, "tools[0].type"),
        ({"messages": [user({"type": "container_upload", "file_id": "f"})]}, "messages[0].content[0]"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source",
        ),
        ({"messages": [user("Hi"), assistant("The answer is (")]}, "messages[1]"),
        ({"messages": [user("Hi"), assistant({"type": "of_tomorrow"}), user("x")]}, "messages[1].content[0]"),
    ],
)
def test_what_only_the_messages_api_can_express(change, param):
    fields = {"model": "m", "max_tokens": 10, "messages": [user("Hi")], **change}
    before = copy.deepcopy(fields)
    converted = read_request(request(fields))
    assert converted.untranslatable.param == param and "Messages API" in converted.untranslatable.message
    assert json.dumps(fields) == json.dumps(before)


def test_fields_that_are_left_out_are_named():
    fields = {"top_k": 3, "betas": ["x"], "speed": None, "temperature": 1}
    body = {"model": "m", "max_tokens": 10, "messages": [user("Hi")], **fields}
    assert set(read_request(request(body)).dropped_fields) == {"top_k", "betas"}
