"""What a Responses upstream gets of a chat request."""

import json

import pytest

from floway_core.testing import Reply, message_stream

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
FUNCTION = {"name": "get_weather", "description": "It knows.", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bonn"}'}}
CALL_ITEM = {
    "type": "function_call",
    "name": "get_weather",
    "arguments": '{"city": "Bonn"}',
    "call_id": "call_1",
}


def received(client, upstream, messages="Hi", **fields):
    """The body that the upstream gets for a request that has to succeed."""
    upstream.script(Reply(message_stream()))
    answer = client.chat(messages, **fields)
    assert answer.status == 200, answer.body
    return json.loads(upstream.requests[-1].body)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 17}, {"max_output_tokens": 17}),
        ({"max_completion_tokens": 18}, {"max_output_tokens": 18}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning": {"effort": "high", "summary": "auto"}}),
        ({"reasoning": {"enabled": False}}, {"reasoning": {"effort": "none"}}),
        ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
        ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
                },
                "verbosity": "high",
            },
            {
                "text": {
                    "verbosity": "high",
                    "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
        ({"temperature": 0.5, "top_p": 0.25}, {"temperature": 0.5, "top_p": 0.25}),
        ({"service_tier": "flex", "user": "u", "store": True}, {"service_tier": "flex", "user": "u", "store": True}),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k"}, {"metadata": {"a": "b"}, "prompt_cache_key": "k"}),
        ({"store": False}, {"store": False}),
        ({"logprobs": True, "top_logprobs": 3}, {"include": ["message.output_text.logprobs"], "top_logprobs": 3}),
        (
            {"tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False},
            {"tools": [{"type": "function", **FUNCTION, "strict": False}], "parallel_tool_calls": False},
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}], "tool_choice": "required"},
            {
                "tools": [
                    {
                        "type": "function",
                        "name": "f",
                        "parameters": {"type": "object", "properties": {}},
                        "strict": True,
                    }
                ],
                "tool_choice": "required",
            },
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tool_choice": {"type": "function", "name": "f"}},
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
                }
            },
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
        ),
        (
            {
                "tools": [
                    {
                        "type": "custom",
                        "custom": {
                            "name": "c",
                            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}},
                        },
                    }
                ],
                "tool_choice": {"type": "custom", "custom": {"name": "c"}},
            },
            {
                "tools": [
                    {
                        "type": "custom",
                        "name": "c",
                        "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
                    }
                ],
                "tool_choice": {"type": "custom", "name": "c"},
            },
        ),
        (
            {"functions": [FUNCTION], "function_call": {"name": "get_weather"}},
            {
                "tools": [{"type": "function", **FUNCTION, "strict": False}],
                "tool_choice": {"type": "function", "name": "get_weather"},
                "parallel_tool_calls": False,
            },
        ),
        (
            {"web_search_options": {"search_context_size": "low", "user_location": {"approximate": {"city": "Bonn"}}}},
            {
                "tools": [
                    {
                        "type": "web_search",
                        "search_context_size": "low",
                        "user_location": {"type": "approximate", "city": "Bonn"},
                    }
                ]
            },
        ),
        ({"seed": 7, "n": 1, "stop": ["x"], "logit_bias": {}, "prediction": {}, "unknown": [1]}, {}),
    ],
)
def test_fields(client, upstream, fields, expected):
    assert received(client, upstream, **fields) == {"model": "model-1", "input": [USER], **expected}


@pytest.mark.parametrize("stream", [True, False])
def test_fields_without_a_counterpart_are_named(client, upstream, stream):
    upstream.script(Reply(message_stream()))
    translated = {"stop": ["x"], "n": 1, "user": "u", "reasoning_effort": "low", "web_search_options": {}}
    dropped = {"seed": 7, "logit_bias": {"5": 1}, "prediction": None, "top_k": 3, "not a header": 1}
    answer = client.chat(stream=stream, **translated, **dropped, tools=[], metadata={})
    assert answer.status == 200 and answer.body
    assert answer.headers["x-floway-ignored"] == "seed, logit_bias, top_k"


def message(role, *content):
    return {"type": "message", "role": role, "content": list(content)}


def text(value, type="input_text"):
    return {"type": type, "text": value}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "system", "content": "Be nice."}], [message("system", text("Be nice."))]),
        (
            [{"role": "developer", "content": [{"type": "text", "text": "Be nice."}]}],
            [message("developer", text("Be nice."))],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
                    ],
                }
            ],
            [
                message(
                    "user",
                    text("Look"),
                    {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
                )
            ],
        ),
        (
            [
                {"role": "assistant", "content": "Sun?", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
            ],
            [
                message("assistant", text("Sun?", "output_text")),
                CALL_ITEM,
                {"type": "function_call_output", "call_id": "call_1", "output": "Rain."},
            ],
        ),
        (
            [
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {
                    "role": "tool",
                    "tool_call_id": "call_1",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            ],
            [
                CALL_ITEM,
                {"type": "function_call_output", "call_id": "call_1", "output": [text("a"), text("b")]},
            ],
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "x", "input": "raw"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "Done."},
            ],
            [
                {"type": "custom_tool_call", "name": "x", "input": "raw", "call_id": "c"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "Done."},
            ],
        ),
        (
            [{"role": "assistant", "content": None, "refusal": "No."}, {"role": "user", "content": "Why?"}],
            [message("assistant", {"type": "refusal", "refusal": "No."}), message("user", text("Why?"))],
        ),
        (
            [{"role": "assistant", "content": "So.", "reasoning_content": "Hm."}],
            [
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
                message("assistant", text("So.", "output_text")),
            ],
        ),
        (
            [{"role": "assistant", "content": None, "reasoning_content": "Hm."}, {"role": "user", "content": "Well?"}],
            [
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
                message("user", text("Well?")),
            ],
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": "So.",
                    "reasoning_details": [
                        {"type": "reasoning.summary", "summary": "Hm.", "id": "rs_1", "index": 0},
                        {"type": "reasoning.encrypted", "data": "BLOB", "id": "rs_1", "index": 1},
                    ],
                }
            ],
            [
                {
                    "type": "reasoning",
                    "summary": [{"type": "summary_text", "text": "Hm."}],
                    "id": "rs_1",
                    "encrypted_content": "BLOB",
                },
                message("assistant", text("So.", "output_text")),
            ],
        ),
    ],
)
def test_messages(client, upstream, messages, expected):
    assert received(client, upstream, messages)["input"] == expected


def test_deprecated_function_calls_get_the_same_id_each_time(client, upstream):
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "Sun."},
    ]
    first, second = (received(client, upstream, messages)["input"] for _ in range(2))
    assert first == second
    _, call, output = first
    assert call["type"] == "function_call" and output["type"] == "function_call_output"
    assert call["call_id"] == output["call_id"] and output["output"] == "Sun."


def test_a_function_that_returned_nothing(client, upstream):
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    items = received(client, upstream, [call, {"role": "function", "name": "f", "content": None}])["input"]
    assert items[-1]["output"] == ""


def test_both_paths_and_a_query(client, upstream):
    for path in ("/v1/chat/completions?api-version=1", "/chat/completions"):
        upstream.script(Reply(message_stream()))
        assert client.post({"model": "model-1", "messages": [{"role": "user", "content": "x"}]}, path).status == 200
