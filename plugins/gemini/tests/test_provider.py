"""Clients of the Responses API on an upstream with the generateContent API."""

import json

import pytest

from floway_core.testing import ApiClient

from . import wire

MODEL = "gemini-3-test"
TOOL = {"type": "function", "name": "run", "description": "Runs.", "parameters": {"type": "object"}}


@pytest.fixture
def client(gemini_gateway):
    return ApiClient(gemini_gateway.url, gemini_gateway.key)


def sent(upstream):
    return json.loads(wire.posts(upstream)[-1].body)


def test_a_request_with_everything(client, gemini_upstream):
    gemini_upstream.script(wire.stream(wire.say("Hello.")))
    items = [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_image", "image_url": "https://a.example/a.webp"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
            ],
        },
        {"type": "function_call", "call_id": "a", "name": "run", "arguments": '{"n": 1}'},
        {"type": "function_call", "call_id": "b", "name": "run", "arguments": "{"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "two"}]},
        {"type": "function_call_output", "call_id": "a", "output": "one"},
        {"role": "developer", "content": "Now be brief."},
        {"role": "assistant", "content": "Well."},
    ]
    response = client.create(
        items,
        model=MODEL,
        instructions="Be good.",
        tools=[TOOL, {"type": "custom", "name": "patch"}],
        tool_choice="required",
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=100,
        temperature=1.5,
        top_p=0.5,
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}, "verbosity": "low"},
        service_tier="priority",
    )
    assert response.status == 200, response.body
    assert response.headers["x-floway-ignored"] == "text.verbosity, service_tier"
    body = sent(gemini_upstream)
    assert body["systemInstruction"] == {"parts": [{"text": "Be good."}, {"text": "Be kind."}]}
    first, calls, results, well, last = body["contents"]
    assert first["parts"][1:] == [
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"fileData": {"mimeType": "image/webp", "fileUri": "https://a.example/a.webp"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
    ]
    assert calls["parts"] == [
        {
            "functionCall": {"id": "a", "name": "run", "args": {"n": 1}},
            "thoughtSignature": "skip_thought_signature_validator",
        },
        {"functionCall": {"id": "b", "name": "run", "args": {}}},
    ]
    assert [part["functionResponse"]["response"] for part in results["parts"][:2]] == [
        {"output": "one"},
        {"output": "two"},
    ]
    assert "Now be brief." in results["parts"][2]["text"] and well["role"] == "model"
    assert last == {"role": "user", "parts": [{"text": "Continue."}]}
    run, patch = body["tools"][0]["functionDeclarations"]
    assert run["parametersJsonSchema"] == {"type": "object"} and list(patch["parametersJsonSchema"]["properties"]) == [
        "input"
    ]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert body["generationConfig"] == {
        "temperature": 1.5,
        "topP": 0.5,
        "maxOutputTokens": 100,
        "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True},
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_with_everything(client, gemini_upstream, stream):
    usage = {**wire.USAGE, "thoughtsTokenCount": 5, "toolUsePromptTokenCount": 20}
    gemini_upstream.script(
        wire.stream(
            wire.think("Hm."),
            wire.say("Hello "),
            wire.signed(wire.say("there.")),
            wire.signed(wire.call("run", {"n": "ü"})),
            wire.call("run", {}, id="theirs"),
            wire.call("patch", {"input": "text"}),
            {"inlineData": {"mimeType": "image/webp", "data": "aGk="}},
            usage=usage,
        )
    )
    answer = client.create("Hi", model=MODEL, stream=stream, tools=[TOOL, {"type": "custom", "name": "patch"}])
    sent_events = answer.events() if stream else []
    assert [one["sequence_number"] for one in sent_events] == list(range(len(sent_events)))
    response = sent_events[-1]["response"] if stream else answer.json()
    kinds = [
        "reasoning",
        "message",
        "reasoning",
        "reasoning",
        "function_call",
        "function_call",
        "custom_tool_call",
        "image_generation_call",
    ]
    output = response["output"]
    assert [item["type"] for item in output] == kinds
    assert output[0]["summary"][0]["text"] == "Hm." and output[1]["content"][0]["text"] == "Hello there."
    assert output[4]["arguments"] == '{"n":"ü"}' and output[4]["call_id"] and output[5]["call_id"] == "theirs"
    assert output[6]["input"] == "text" and output[7]["result"] == "aGk="
    assert response["usage"]["input_tokens"] == 120 and response["usage"]["output_tokens"] == 15
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == 5
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 75


def test_signatures_return_to_their_parts(client, gemini_upstream):
    gemini_upstream.script(
        wire.stream(
            wire.signed(wire.call("run", {"n": 1}, id="a"), "Y2FsbA=="),
            wire.call("run", {"n": 2}, id="b"),
            wire.signed(wire.say(""), "dGV4dA=="),
        ),
        wire.stream(wire.say("Done.")),
    )
    first = client.create("Hi", model=MODEL, tools=[TOOL]).json()
    outputs = [{"type": "function_call_output", "call_id": call_id, "output": "x"} for call_id in "ab"]
    client.create(outputs, model=MODEL, tools=[TOOL], previous_response_id=first["id"]).json()
    one, two, text = sent(gemini_upstream)["contents"][1]["parts"]
    assert one["thoughtSignature"] == "Y2FsbA==" and "thoughtSignature" not in two
    assert text == {"text": "", "thoughtSignature": "dGV4dA=="}


def test_a_search(client, gemini_upstream):
    metadata = {
        "webSearchQueries": ["ulm"],
        "groundingChunks": [{"web": {"uri": "https://a.example/", "title": "A"}}],
        "groundingSupports": [{"segment": {"startIndex": 8, "endIndex": 11}, "groundingChunkIndices": [0]}],
    }
    gemini_upstream.script(wire.stream(wire.say("Grüße "), wire.signed(wire.say("Ulm.")), groundingMetadata=metadata))
    response = client.create("Hi", model=MODEL, tools=[{"type": "web_search"}]).json()
    assert sent(gemini_upstream)["tools"] == [{"googleSearch": {}}]
    message, reasoning, search = response["output"]
    assert reasoning["type"] == "reasoning", "the signature of the text"
    (annotation,) = message["content"][0]["annotations"]
    text = message["content"][0]["text"]
    assert text[annotation["start_index"] : annotation["end_index"]] == "Ulm" and annotation["title"] == "A"
    assert search["action"]["query"] == "ulm" and search["action"]["sources"][0]["url"] == "https://a.example/"


def test_a_search_beside_functions_is_ignored(client, gemini_upstream):
    gemini_upstream.script(wire.stream(wire.say("Hello.")))
    answer = client.create("Hi", model=MODEL, tools=[TOOL, {"type": "web_search"}])
    assert answer.headers["x-floway-ignored"] == "tools[1]" and len(sent(gemini_upstream)["tools"]) == 1


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"finish_reason": "MAX_TOKENS"}, "incomplete", "max_output_tokens"),
        ({"finish_reason": "SAFETY"}, "incomplete", "content_filter"),
        ({"finish_reason": "OTHER"}, "completed", None),
    ],
)
def test_why_it_stopped(client, gemini_upstream, fields, status, reason):
    gemini_upstream.script(wire.stream(wire.say("Hello."), **fields))
    response = client.create("Hi", model=MODEL).json()
    assert response["status"] == status and (response.get("incomplete_details") or {}).get("reason") == reason


def test_a_prompt_that_is_blocked(client, gemini_upstream):
    gemini_upstream.script(wire.Reply([wire.event({"promptFeedback": {"blockReason": "SAFETY"}})]))
    response = client.create("Hi", model=MODEL).json()
    assert response["incomplete_details"]["reason"] == "content_filter"
    assert response["output"][0]["content"][0]["type"] == "refusal"


def test_failures(client, gemini_upstream):
    gemini_upstream.script(
        wire.stream(finish_reason="MALFORMED_FUNCTION_CALL", finishMessage="Bad call."),
        wire.Reply(
            [
                wire.event(wire.piece(wire.say("One."))),
                json.dumps(wire.error_body(503, "UNAVAILABLE", "Later.")).encode(),
            ]
        ),
        wire.error(
            429,
            "RESOURCE_EXHAUSTED",
            "Slow.",
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"},
        ),
    )
    last = client.create("Hi", model=MODEL, stream=True).events()[-1]
    assert last["response"]["error"] == {"code": "malformed_function_call", "message": "Bad call."}
    last = client.create("Hi", model=MODEL, stream=True).events()[-1]
    assert last["response"]["error"] == {"code": "UNAVAILABLE", "message": "Later."}
    refused = client.create("Hi", model=MODEL)
    assert (refused.status, refused.headers["retry-after"]) == (429, "8") and refused.json()["error"][
        "message"
    ] == "Slow."


def test_an_answer_in_one_piece_or_an_array(client, gemini_upstream):
    pieces = [wire.piece(wire.say("Hello ")), wire.piece(wire.say("there."), finish_reason="STOP")]
    for reply in (wire.whole(wire.say("Hello there.")), wire.as_json(pieces)):
        gemini_upstream.script(reply)
        assert client.create("Hi", model=MODEL).json()["output"][0]["content"][0]["text"] == "Hello there."


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-test", "none", {"thinkingBudget": 0}),
        ("gemini-test", "medium", {"thinkingBudget": 8192}),
        ("gemini-3-test", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-test", "xhigh", {"thinkingLevel": "HIGH"}),
    ],
)
def test_efforts(client, gemini_upstream, model, effort, thinking):
    gemini_upstream.script(wire.stream(wire.say("Hello.")))
    client.create("Hi", model=model, reasoning={"effort": effort}).json()
    assert sent(gemini_upstream)["generationConfig"]["thinkingConfig"] == thinking


def test_a_model_that_does_not_think(client, gemini_upstream):
    """As the list of models says; it would refuse the configuration."""
    gemini_upstream.script(wire.stream(wire.say("Hello.")))
    answer = client.create("Hi", model="gemini-simple", reasoning={"effort": "high"})
    assert answer.headers["x-floway-ignored"] == "reasoning.effort" and answer.status == 200
    assert "generationConfig" not in sent(gemini_upstream)


def test_counting(client, gemini_upstream):
    gemini_upstream.script(wire.as_json({"totalTokens": 31}))
    counted = client.post(
        {"model": MODEL, "input": "Hi", "instructions": "Be brief."}, "/v1/responses/input_tokens"
    ).json()
    inner = sent(gemini_upstream)["generateContentRequest"]
    assert counted["input_tokens"] == 31 and inner["model"] == f"models/{MODEL}" and "systemInstruction" in inner


def test_what_cannot_be_translated_is_refused(client, gemini_upstream):
    for fields in (
        {"tools": [{"type": "file_search"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
    ):
        refused = client.post({"model": MODEL, "input": "Hi", **fields})
        assert refused.status == 400 and refused.json()["error"]["param"]
    assert wire.posts(gemini_upstream) == []


def test_adding_an_upstream_with_a_wrong_key(gemini_upstream, gemini_gateway):
    """Google refuses it with 400."""
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    gemini_upstream.answer_always("/v1beta/models", wire.error(400, "INVALID_ARGUMENT", "API key not valid.", reason))
    done = gemini_gateway.run(
        "upstreams",
        "add",
        "gemini",
        "two",
        "--base-url",
        f"{gemini_upstream.url}/v1beta",
        "--key-file",
        "-",
        typed="wrong",
    )
    assert "answered 401" in done.stderr
    gemini_upstream.answer_always("/v1beta/models", wire.model_list("gemini-test", MODEL, "gemini-simple"))
    assert gemini_gateway.run("upstreams", "remove", "two", "--yes").returncode == 0
