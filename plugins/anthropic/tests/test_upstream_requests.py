"""Translating requests of the Responses API for upstreams with the Messages API."""

import pytest
from anthropic.types import message_create_params
from floway_anthropic.upstream.caching import add_marks
from floway_anthropic.upstream.requests import convert_request
from pydantic import TypeAdapter

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest, ResponsesRequestContext, Upstream
from floway_core.errors import GatewayError

from .test_requests import PNG
from .wire import call, say, think

PARAMS = TypeAdapter(message_create_params.MessageCreateParamsStreaming)
ADAPTIVE = {
    "capabilities": {
        "thinking": {"supported": True, "types": {"adaptive": {"supported": True}, "enabled": {"supported": False}}},
        "effort": {"supported": True},
    },
    "max_tokens": 128_000,
}
MARK = {"type": "ephemeral"}


def convert(details=None, validate=True, **fields):
    """The request for the upstream, valid for Anthropic's SDK, and the fields that are ignored."""
    body = {"model": "claude-test", "input": "Hi", **fields}
    request = ClientRequest("id", ApiKey("k", "k"), {}, body, True, None)
    attempt = AttemptContext("id.1", request, Upstream("u", "anthropic", "one", True, 1), None, "claude-test")
    ctx = ResponsesRequestContext(attempt, 1, body)
    converted = convert_request(ctx, details or {})
    if validate:
        PARAMS.validate_python(converted)
    return converted, attempt.ignored


def user(text):
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def output(call_id, value):
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def function(name, call_id="call_1", arguments="{}"):
    return {"type": "function_call", "name": name, "call_id": call_id, "arguments": arguments}


def test_a_plain_request():
    converted, ignored = convert(instructions="Be brief.", temperature=1.5, user="me")
    assert converted == {
        "model": "claude-test",
        "max_tokens": 16_384,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]}],
        "temperature": 1,
        "metadata": {"user_id": "me"},
    }
    assert ignored == []


def test_messages_take_turns_and_results_follow_their_calls():
    items = [
        {"role": "developer", "content": "First."},
        user("One"),
        function("f", "call_1", '{"a":1}'),
        function("g", "call:2"),
        output("call:2", "second"),
        user("Meanwhile"),
        output("call_1", [{"type": "input_text", "text": "first"}]),
        {"role": "developer", "content": "Mind this."},
        function("h", "call_3"),
        output("stray", "from nowhere"),
    ]
    converted, _ = convert(input=items)
    assert [block["text"] for block in converted["system"]] == ["First."]
    _one, calls, results, again, rest = converted["messages"]
    assert [message["role"] for message in converted["messages"]] == ["user", "assistant"] * 2 + ["user"]
    assert [block["name"] for block in calls["content"]] == ["f", "g"]
    ids = [block["id"] for block in calls["content"]]
    assert ids[0] == "call_1" and ids[1].startswith("call_") and ":" not in ids[1]
    assert [block["tool_use_id"] for block in results["content"][:2]] == ids
    assert [block["content"][0]["text"] for block in results["content"][:2]] == ["first", "second"]
    assert "Meanwhile" in str(results["content"]) and "<system-reminder>" in results["content"][-1]["text"]
    assert again["content"][0]["name"] == "h"
    assert rest["content"][0]["content"][0]["text"] == "The call was not answered."
    assert "from nowhere" in str(rest["content"][1:])


def test_parts():
    parts = [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        {"type": "input_image", "image_url": "https://a.example/x.png"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        {"type": "input_file", "file_url": "https://a.example/x.pdf"},
    ]
    converted, _ = convert(input=[{"role": "user", "content": parts}])
    blocks = converted["messages"][0]["content"]
    assert [block["type"] for block in blocks] == ["text", "image", "image", "document", "document"]
    assert blocks[1]["source"] == {"type": "base64", "media_type": "image/png", "data": PNG}
    assert blocks[3]["source"]["media_type"] == "application/pdf" and blocks[4]["source"]["type"] == "url"
    data = "data:text/markdown;base64,IyDDvA=="
    message = {"role": "user", "content": [{"type": "input_file", "filename": "a.md", "file_data": data}]}
    (block,) = convert(input=[message])[0]["messages"][0]["content"]
    assert block["source"] == {"type": "text", "media_type": "text/plain", "data": "# \u00fc"}
    for part in ({"type": "input_audio"}, {"type": "input_image", "file_id": "file_1"}, {"type": "input_file"}):
        with pytest.raises(GatewayError) as caught:
            convert(input=[{"role": "user", "content": [part]}])
        assert (caught.value.status, caught.value.param) == (400, "input[0].content[0]")


def test_blank_texts_are_left_out():
    """The Messages API refuses them, and models write them before they call a tool."""
    blank = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "\n\n"}]}
    items = [user("Hi"), blank, function("f"), output("call_1", " \n"), user(" ")]
    converted, _ = convert(input=items, instructions=" ")
    assert "system" not in converted
    _, answer, result = converted["messages"]
    assert [block["type"] for block in answer["content"]] == ["tool_use"]
    assert [(block["type"], block.get("content")) for block in result["content"]] == [("tool_result", [])]


def test_tools():
    tools = [
        {"type": "function", "name": "f", "description": "Does.", "parameters": {"properties": {}}, "strict": True},
        {"type": "custom", "name": "patch", "format": {"type": "grammar"}},
        {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}},
        {"type": "tool_search"},
    ]
    converted, ignored = convert(tools=tools, tool_choice="required", parallel_tool_calls=False)
    assert [tool["name"] for tool in converted["tools"]] == ["f", "patch", "web_search"]
    assert converted["tools"][0]["input_schema"] == {"type": "object", "properties": {}}
    assert converted["tools"][2]["allowed_domains"] == ["a.example"]
    assert converted["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert ignored == ["tools[3]"]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    assert [tool["name"] for tool in convert(tools=tools, tool_choice=allowed)[0]["tools"]] == ["f"]
    with pytest.raises(GatewayError, match="file_search"):
        convert(tools=[{"type": "file_search"}])


@pytest.mark.parametrize(
    ("details", "fields", "expected"),
    [
        ({}, {}, None),
        ({}, {"reasoning": {"effort": "none"}}, None),
        ({}, {"reasoning": {"effort": "high"}}, {"type": "enabled", "budget_tokens": 12_288}),
        ({}, {"reasoning": {"effort": "low"}, "max_output_tokens": 1000}, None),
        (
            {},
            {"reasoning": {"effort": "high"}, "max_output_tokens": 2000},
            {"type": "enabled", "budget_tokens": 1500},
        ),
        (
            {},
            {"reasoning": {"effort": "low"}, "tools": [{"type": "function", "name": "f"}], "tool_choice": "required"},
            None,
        ),
        ({"capabilities": {"thinking": {"supported": False}}}, {"reasoning": {"effort": "low"}}, None),
        (
            ADAPTIVE,
            {"reasoning": {"effort": "xhigh", "summary": "auto"}},
            {"type": "adaptive", "display": "summarized"},
        ),
        (ADAPTIVE, {"reasoning": {"effort": "low"}}, {"type": "adaptive", "display": "omitted"}),
    ],
)
def test_thinking(details, fields, expected):
    converted, ignored = convert(details, temperature=0.5, **fields)
    assert converted.get("thinking") == expected
    assert ("temperature" in ignored) == (expected is not None) == ("temperature" not in converted)
    if details is ADAPTIVE:
        assert converted["output_config"]["effort"] == fields["reasoning"]["effort"]


def test_no_thinking_within_a_tool_loop_that_began_without():
    items = [user("Hi"), function("f"), output("call_1", "1")]
    converted, ignored = convert(input=items, reasoning={"effort": "high"})
    assert "thinking" not in converted and ignored == ["reasoning.effort"]


def test_output():
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    text = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}, "verbosity": "low"}
    converted, ignored = convert(ADAPTIVE, text=text, reasoning={"effort": "low"}, truncation="auto")
    assert converted["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert converted["max_tokens"] == 64_000 and ignored == ["text.verbosity", "truncation"]
    assert convert(ADAPTIVE, max_output_tokens=7)[0]["max_tokens"] == 7


def marks(converted):
    """Where the marks are: in ``system``, ``tools``, and by number of the message."""
    places = [name for name in ("system", "tools") for block in converted.get(name, ()) if "cache_control" in block]
    return places + [
        number
        for number, message in enumerate(converted["messages"])
        for block in message["content"]
        if "cache_control" in block
    ]


def test_what_one_request_stores_the_next_one_finds():
    history, earlier = [user("Begin")], []
    tools = [{"type": "function", "name": "f"}]
    for step in range(4):
        converted, _ = convert(input=history, instructions="Be brief.", tools=tools)
        ends = marks(converted)
        assert ends[0] == "system" and ends[-1] == len(converted["messages"]) - 1 and len(ends) <= 4
        assert not earlier or earlier[-1] in ends, "the end of the request before"
        earlier = ends
        history = [*history, function("f", f"call_{step}"), output(f"call_{step}", f"Result {step}")]
    assert marks(convert(tools=tools)[0]) == ["tools", 0]


def test_thinking_has_no_mark():
    blocks = [think("Hm."), call("f", {})]
    body = {"messages": [{"role": "user", "content": [say("Hi")]}, {"role": "assistant", "content": blocks[:1]}]}
    add_marks(body)
    assert marks(body) == [0]


# ------------------------------------------------------------------------------------------------ what the API demands
def test_the_first_and_the_last_word_is_the_users():
    answer = {"role": "assistant", "content": "One "}
    for items, system in (([{"role": "developer", "content": "Write."}], ["Write."]), ([answer], [])):
        converted, _ = convert(input=items)
        assert [block["text"] for block in converted.get("system", [])] == system
        assert (converted["messages"][0]["role"], converted["messages"][-1]["role"]) == ("user", "user")
    converted, _ = convert(input=[user("Hi"), answer])
    assert [message["role"] for message in converted["messages"]] == ["user", "assistant", "user"]
    assert (
        len([mark for message in converted["messages"] for mark in message["content"] if "cache_control" in mark]) == 2
    )


def test_schemas_have_only_what_the_api_takes():
    count = {"type": "integer", "minimum": 1, "maximum": 5, "description": "How many."}
    item = {"type": "object", "properties": {"minimum": {"type": "string", "format": "byte"}}}
    schema = {
        "type": "object",
        "properties": {
            "count": count,
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1, "maxItems": 3},
            "when": {"oneOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        },
        "required": ["count"],
        "$defs": {"Item": item},
    }
    converted, _ = convert(text={"format": {"type": "json_schema", "name": "o", "schema": schema}})
    fitted = converted["output_config"]["format"]["schema"]
    assert fitted["additionalProperties"] is False and fitted["required"] == ["count"]
    assert fitted["properties"] == {
        "count": {"type": "integer", "description": "How many.\n\n{minimum: 1, maximum: 5}"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1, "description": "{maxItems: 3}"},
        "when": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
    }
    assert fitted["$defs"]["Item"] == {
        "type": "object",
        "properties": {"minimum": {"type": "string", "description": '{format: "byte"}'}},
        "additionalProperties": False,
    }
