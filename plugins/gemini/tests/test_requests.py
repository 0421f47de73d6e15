"""What requests of the generateContent API become."""

import base64
import json

import pytest
from floway_gemini import thoughts
from floway_gemini.client.requests import read_request

from floway_core.dialect import DialectRequest
from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import find_fault

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\xfb\xff").decode()
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "b",
}


def request(body, path="/v1beta/models/m:generateContent"):
    return DialectRequest("POST", path, {"model": "m"}, {}, {}, body, json.dumps(body).encode())


def convert(*contents, **fields):
    """The converted request; a text stands for a content of the user."""
    contents = [user(one) if isinstance(one, str) else one for one in contents or ("Hi",)]
    return convert_body({"contents": contents, **fields})


def convert_body(body):
    read = read_request(request(body))
    if read.untranslatable:
        raise read.untranslatable
    assert find_fault(read.body) is None
    return read.body


def user(*parts):
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts):
    return {**user(*parts), "role": "model"}


def call(name, args=None, **fields):
    return {"functionCall": {"name": name, "args": args or {}, **fields}}


def response(name, output, **fields):
    return {"functionResponse": {"name": name, "response": output, **fields}}


def test_a_conversation():
    body = convert(
        "Hi",
        model("One, ", "two."),
        model("Three."),
        user("Look", {"inlineData": {"mimeType": "image/png", "data": PNG}}),
        systemInstruction={"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
    )
    assert body["model"] == "m" and body["instructions"] == "Be brief.\n\nBe kind."
    first, answer, last = body["input"]
    assert first == {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    assert answer["content"] == [{"type": "output_text", "text": "One, two.Three."}], "pieces of a stream are one text"
    assert last["content"][1] == {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}


def test_both_spellings_mixed():
    body = convert(
        user({"inline_data": {"mime_type": "image/png", "data": PNG}}),
        model({"function_call": {"name": "f", "args": {"a_b": 1}, "id": "c"}}),
        user({"function_response": {"name": "f", "response": {"output": "x"}, "id": "c"}}),
        system_instruction={"parts": [{"text": "Be brief."}]},
        tools=[{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object"}}]}],
        tool_config={"functionCallingConfig": {"mode": "any", "allowed_function_names": ["f"]}},
        generationConfig={
            "max_output_tokens": 50,
            "thinkingConfig": {"include_thoughts": True, "thinking_level": "low"},
        },
    )
    assert [item["type"] for item in body["input"]] == ["message", "function_call", "function_call_output"]
    assert body["input"][1]["arguments"] == '{"a_b":1}' and body["instructions"] == "Be brief."
    assert body["tools"][0]["parameters"] == {"type": "object"}
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["max_output_tokens"] == 50 and body["reasoning"] == {"effort": "low", "summary": "auto"}


def test_schemas_with_types_in_upper_case():
    declared = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "enum": ["a", "b"], "format": "enum"},
            "list_of": {"type": "ARRAY", "items": {"type": "INTEGER", "nullable": True}, "minItems": "1"},
            "either": {"any_of": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "description": "d"},
        },
        "required": ["type"],
        "propertyOrdering": ["either", "type"],
    }
    (tool,) = convert(tools=[{"functionDeclarations": [{"name": "f", "description": "d", "parameters": declared}]}])[
        "tools"
    ]
    assert list(tool["parameters"]["properties"]) == ["either", "type", "list_of"]
    assert tool["parameters"] == {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["a", "b"]},
            "list_of": {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1},
            "either": {"anyOf": [{"type": "number"}, {"type": "boolean"}], "description": "d"},
        },
        "required": ["type"],
    }


def test_calls_with_ids_in_parallel():
    items = convert(
        "Go",
        model(call("f", {"n": 1}, id="a"), call("f", {"n": 2}, id="b")),
        user(response("f", {"output": "two"}, id="b"), response("f", {"error": "none"}, id="a")),
    )["input"]
    assert [(item["type"], item["call_id"]) for item in items[1:]] == [
        ("function_call", "a"),
        ("function_call", "b"),
        ("function_call_output", "b"),
        ("function_call_output", "a"),
    ]
    assert [item["output"] for item in items[3:]] == ["two", "Error: none"]


def test_calls_without_ids_are_matched_by_name_in_their_order():
    contents = (
        "Go",
        model(call("f"), call("g"), call("f")),
        user(response("g", {"x": 1}), response("f", {"output": "first"}), response("f", {"output": "second"})),
    )
    items = convert(*contents)["input"]
    one, other, three = (item["call_id"] for item in items if item["type"] == "function_call")
    assert len({one, other, three}) == 3
    results = [(item["call_id"], item["output"]) for item in items if item["type"] == "function_call_output"]
    assert results == [(other, '{"x":1}'), (one, "first"), (three, "second")]
    assert convert(*contents)["input"] == items, "the ids are the same every time"


def test_ids_that_gemini_cli_has_changed():
    items = convert("Go", model(call("f", id="f__call_1")), user(response("f", {}, id="f__call_1")))["input"]
    assert [item["call_id"] for item in items[1:]] == ["call_1", "call_1"]


def test_results_with_images():
    picture = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    nested = response("f", {"output": "See."}, id="a", parts=[picture])
    items = convert("Go", model(call("f", id="a")), user(nested, picture))["input"]
    assert [part["type"] for part in items[2]["output"]] == ["input_text", "input_image"]
    assert items[3]["role"] == "user" and items[3]["content"][0]["type"] == "input_image"


@pytest.mark.parametrize("data", ["-_8=", "-_8", "+/8=", "+/8"])
def test_data_in_either_alphabet(data):
    (item,) = convert(user({"inlineData": {"mimeType": "image/png", "data": data}}))["input"]
    assert item["content"][0]["image_url"] == "data:image/png;base64,+/8="


def test_files():
    (item,) = convert(
        user(
            {"inlineData": {"mimeType": "application/pdf", "data": PNG, "displayName": "a.pdf"}},
            {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode("Grüße".encode()).decode()}},
            {"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/a.png"}},
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.example/a.pdf"}},
        )
    )["input"]
    pdf, text, image, file = item["content"]
    assert pdf["filename"] == "a.pdf" and text == {"type": "input_text", "text": "Grüße"}
    assert image["image_url"] == "https://a.example/a.png" and file["file_url"] == "https://a.example/a.pdf"


# ------------------------------------------------------------------------------------------------------------ thoughts
@pytest.mark.parametrize("part", [{"text": "Yes."}, call("f", id="a")])
def test_reasoning_comes_back(part):
    signature = thoughts.encode_items([REASONING])
    items = convert("Hi", model({"text": "Hm.", "thought": True}, {**part, "thoughtSignature": signature}), "On")[
        "input"
    ]
    assert items[1] == REASONING and len(items) == 4
    again = base64.urlsafe_b64encode(base64.b64decode(signature)).decode().rstrip("=")  # as the Python SDK does
    assert convert("Hi", model({**part, "thought_signature": again}), "On")["input"] == items


@pytest.mark.parametrize(
    "signature",
    ["c2lnbmVk", "", "x", "skip_thought_signature_validator", thoughts.encode_items([REASONING])[:-9], "Zmxvd2F5LjEu"],
)
def test_signatures_that_floway_did_not_make_are_left_out(signature):
    items = convert("Hi", model({"text": "Yes.", "thoughtSignature": signature}), "On")["input"]
    assert [item["type"] for item in items] == ["message"] * 3


# ------------------------------------------------------------------------------------------------------ configuration
@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        ({"thinkingBudget": 0}, {"effort": "none"}),
        ({"thinkingBudget": -1, "includeThoughts": True}, {"summary": "auto"}),
        ({"thinkingBudget": 512}, {"effort": "low"}),
        ({"thinkingBudget": 8192}, {"effort": "medium"}),
        ({"thinkingBudget": "24576"}, {"effort": "high"}),
        ({"thinkingLevel": "MINIMAL"}, {"effort": "minimal"}),
        ({"thinkingLevel": "HIGH", "thinkingBudget": 5}, {"effort": "high"}),
        ({}, None),
    ],
)
def test_thinking(thinking, reasoning):
    assert convert(generationConfig={"thinkingConfig": thinking}).get("reasoning") == reasoning


def test_formats():
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]}
    for config, strict in (
        ({"responseSchema": schema}, True),
        ({"responseSchema": {**schema, "required": []}}, False),
        ({"responseJsonSchema": {"type": "object", "properties": {"a": {"type": "string"}}}}, False),
    ):
        output = convert(generationConfig={"responseMimeType": "application/json", **config})["text"]["format"]
        assert (output["type"], output["strict"]) == ("json_schema", strict)
    body = convert(generationConfig={"responseMimeType": "application/json"})
    assert body["text"]["format"] == {"type": "json_object"} and "JSON" in body["instructions"]
    assert "text" not in convert(generationConfig={"responseMimeType": "text/plain"})


def test_a_schema_that_is_no_object_is_wrapped_in_one():
    config = {"responseMimeType": "application/json", "responseSchema": {"type": "ARRAY", "items": {"type": "STRING"}}}
    schema = convert(generationConfig=config)["text"]["format"]["schema"]
    assert schema["type"] == "object" and schema["properties"] == {
        "value": {"type": "array", "items": {"type": "string"}}
    }


def test_tools_and_choices():
    functions = {"functionDeclarations": [{"name": "f"}, {"name": "a.b:c"}]}
    body = convert(tools=[functions, {"googleSearch": {}}])
    f, dotted, search = body["tools"]
    assert f == {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    assert dotted["name"].startswith("a_b_c_") and search == {"type": "web_search"}
    assert body["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    for config, choice in (
        ({"mode": "AUTO"}, "auto"),
        ({"mode": "ANY"}, "required"),
        ({"mode": "NONE"}, "none"),
        ({"mode": "VALIDATED"}, "auto"),
        ({"mode": "ANY", "allowedFunctionNames": ["a.b:c"]}, {"type": "function", "name": dotted["name"]}),
    ):
        assert convert(tools=[functions], toolConfig={"functionCallingConfig": config})["tool_choice"] == choice
    both = convert(
        tools=[functions], toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f", "a.b:c"]}}
    )
    assert both["tool_choice"]["type"] == "allowed_tools" and len(both["tool_choice"]["tools"]) == 2


def test_a_search_is_no_field_that_an_upstream_may_ignore():
    read = read_request(request({"contents": [user("Hi")], "tools": [{"googleSearch": {}}]}))
    assert list(read.required_fields) == ["tools[0]"]


def test_a_request_to_count_tokens_may_hold_another():
    inner = {"model": "models/m", "contents": [user("Hi")]}
    read = read_request(request({"generateContentRequest": inner}, "/v1beta/models/m:countTokens"))
    assert read.body["input"][0]["content"][0]["text"] == "Hi"


# -------------------------------------------------------------------------------------------------------------- faults
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contents": None}, "* GenerateContentRequest.contents: contents is not specified"),
        ({"contents": []}, "* GenerateContentRequest.contents: contents is not specified"),
        ({"contents": "Hi"}, "Invalid value at 'contents' (TYPE_LIST), \"Hi\""),
        ({"contents": [7]}, "Invalid value at 'contents[0]' (TYPE_MESSAGE), 7"),
        ({"contents": [{"role": "system", "parts": []}]}, "contents[0].role: Please use a valid role: user, model."),
        ({"contents": [{"parts": []}]}, "contents[0].parts: contents.parts must not be empty."),
        ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0].data: required oneof field"),
        ({"contents": [{"parts": [{"text": 5}]}]}, "Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), 5"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "!"}}]}]},
            "'contents[0].parts[0].inline_data.data' (TYPE_BYTES)",
        ),
        ({"contents": [{"parts": [response("f", {})]}]}, "contents[0].parts[0].function_response: Please ensure"),
        ({"systemInstruction": 5}, "Invalid value at 'system_instruction' (TYPE_MESSAGE), 5"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].function_declarations[0].name: name is not specified"),
        ({"tools": [{"codeExecution": {}}]}, "The tool 'codeExecution' ('tools[0].code_execution') is not supported"),
        ({"tools": [{"urlContext": {}}]}, "('tools[0].url_context') is not supported by this model"),
        ({"generationConfig": {"temperature": "hot"}}, "Invalid value at 'generation_config.temperature' (TYPE_FLOAT)"),
        (
            {"generationConfig": {"temperature": 3}},
            "generation_config.temperature: temperature must be in the range [0, 2].",
        ),
        ({"generationConfig": {"maxOutputTokens": 1.5}}, "'generation_config.max_output_tokens' (TYPE_INT32), 1.5"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "deep"}}},
            "thinking_config.thinking_level' (TYPE_ENUM)",
        ),
        ({"generationConfig": {"candidateCount": 2}}, "More than one candidate ('generation_config.candidate_count')"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "Output other than text"),
        ({"generationConfig": {"stopSequences": [""]}}, "generation_config.stop_sequences: A stop sequence"),
        ({"cachedContent": "cachedContents/1"}, "('cached_content') is not supported"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["x"]}}},
            "allowed_function_names[0]: allowed_function_names should be a subset",
        ),
    ],
)
def test_what_is_wrong_is_named_in_googles_words(fields, message):
    with pytest.raises(GatewayError) as caught:
        convert_body({"contents": [user("Hi")], **fields})
    assert caught.value.status == 400 and message in caught.value.message
    assert caught.value.param and caught.value.param in caught.value.message
