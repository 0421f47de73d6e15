"""What is wrong in a chat request is named in OpenAI's words, before any upstream is asked."""

import pytest

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODY = {"model": "model-1", "messages": [USER]}


def calls(*calls):
    return {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": list(calls)}]}


def parts(*content, role="user"):
    return {"messages": [{"role": role, "content": list(content)}]}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"Model": "model-2"}, "Model", "unknown_parameter"),
        ({"stream": True, "\u017ftream_options": {}}, "\u017ftream_options", "unknown_parameter"),
        ({"stream_options": {"Include_Usage": False}}, "stream_options.Include_Usage", "unknown_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "Hi"}, "messages", "invalid_type"),
        ({"messages": [7]}, "messages[0]", "invalid_type"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 7}, "model", "invalid_type"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "messages[0].role", "invalid_type"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "missing_required_parameter"),
        ({"messages": [USER, {"role": "user", "content": 5}]}, "messages[1].content", "invalid_type"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content", "missing_required_parameter"),
        (parts(5), "messages[0].content[0]", "invalid_type"),
        (parts({"type": "text"}), "messages[0].content[0].text", "missing_required_parameter"),
        (parts({"type": "input_text", "text": "x"}), "messages[0].content[0].type", "invalid_value"),
        (parts({"type": "image_url", "image_url": "x"}), "messages[0].content[0].image_url", "invalid_type"),
        (
            parts({"type": "image_url", "image_url": {"url": "x", "detail": "?"}}),
            "messages[0].content[0].image_url.detail",
            "invalid_value",
        ),
        (parts({"type": "file", "file": {}}), "messages[0].content[0].file.file_id", "missing_required_parameter"),
        (
            parts({"type": "image_url", "image_url": {"url": "x"}}, role="system"),
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [USER, {"role": "tool", "content": "x"}]},
            "messages[1].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "call_9"}]},
            "messages[1].role",
            "invalid_value",
        ),
        (calls(7), "messages[1].tool_calls[0]", "invalid_type"),
        (calls({"id": "c", "type": "function"}), "messages[1].tool_calls[0].function", "missing_required_parameter"),
        (calls({**CALL, "id": 7}), "messages[1].tool_calls[0].id", "invalid_type"),
        (calls({**CALL, "type": "magic"}), "messages[1].tool_calls[0].type", "invalid_value"),
        (
            calls({**CALL, "function": {"name": "f"}}),
            "messages[1].tool_calls[0].function.arguments",
            "missing_required_parameter",
        ),
        ({"messages": [*calls(CALL)["messages"], USER]}, "messages[1].tool_calls", "invalid_value"),
        ({"n": 2}, "n", "unsupported_value"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"max_tokens": "x"}, "max_tokens", "invalid_type"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "array_above_max_length"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_parameter_combination"),
        ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.name",
            "missing_required_parameter",
        ),
        ({"tools": [{"type": "magic"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "missing_required_parameter"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"web_search_options": {"user_location": 1}}, "web_search_options.user_location", "invalid_type"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_bad_request(client, upstream, fields, param, code, stream):
    body = {name: value for name, value in {**BODY, "stream": stream, **fields}.items() if value is not None}
    answer = client.post(body, "/v1/chat/completions")
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert not upstream.requests


@pytest.mark.parametrize(
    ("send", "status", "code"),
    [
        (lambda client: client.get("/v1/chat/completions"), 405, None),
        (lambda client: client.get("/v1/chat/other"), 404, None),
        (lambda client: client.post(b"{", "/v1/chat/completions"), 400, "invalid_json"),
        (lambda client: client.post(BODY, "/v1/chat/completions", authorization="Bearer x"), 401, "invalid_api_key"),
        (lambda client: client.chat(model="unknown"), 404, "model_not_found"),
        (lambda client: client.post(b" " * (65 * 2**20), "/v1/chat/completions"), 413, "request_too_large"),
    ],
)
def test_other_refusals_have_the_same_form(client, send, status, code):
    answer = send(client)
    assert answer.status == status, answer.body
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    assert answer.headers["x-request-id"]
