"""Google's Python SDK, whose types are checked, through a running gateway to the simulated Codex backend."""

import asyncio
import base64
import json

import pydantic
import pytest
from floway_codex.simulator import function_call, item, reasoning, refusal, reply, text
from google import genai
from google.genai import errors, types

from .conftest import MODEL

THOUGHTS = types.ThinkingConfig(include_thoughts=True)


def make_sdk(gateway, key=None, **options):
    options = types.HttpOptions(base_url=gateway.url, retry_options=types.HttpRetryOptions(attempts=1), **options)
    return genai.Client(api_key=key or gateway.key, http_options=options)


@pytest.fixture(params=["v1beta", "v1"])
def sdk(codex_gateway, backend, request):
    return make_sdk(codex_gateway, api_version=request.param)


def test_an_answer(sdk, backend):
    backend.script(reply(text("Hello."), cached_tokens=2))
    response = sdk.models.generate_content(model=MODEL, contents="Hi")
    assert (response.text, response.model_version) == ("Hello.", MODEL) and response.response_id
    assert response.candidates[0].finish_reason == types.FinishReason.STOP
    usage = response.usage_metadata
    assert usage.cached_content_token_count == 2 and usage.total_token_count > usage.prompt_token_count > 0


def test_a_stream_with_thoughts(sdk, backend):
    backend.script(reply(reasoning("Hm.", "blob", chunks=2), text("Hello there.", chunks=4)))
    config = types.GenerateContentConfig(thinking_config=THOUGHTS)
    pieces = list(sdk.models.generate_content_stream(model=MODEL, contents="Hi", config=config))
    parts = [part for piece in pieces for part in piece.candidates[0].content.parts]
    assert [part.text for part in parts if part.thought] == ["Hm."]
    assert "".join(piece.text or "" for piece in pieces) == "Hello there."
    assert [part.thought_signature is not None for part in parts].count(True) == 1
    assert pieces[-1].candidates[0].finish_reason and pieces[-1].usage_metadata.total_token_count > 0
    assert pieces[-1].usage_metadata.thoughts_token_count > 0


def test_functions_are_called_by_the_sdk(sdk, backend):
    asked = []

    def weather(city: str, days: int = 1) -> str:
        """Tell the weather.

        Args:
            city: Where.
            days: How many days.
        """
        asked.append((city, days))
        return "Sunny"

    backend.script(
        reply(
            reasoning(None, "blob"),
            function_call("weather", {"city": "Ulm"}),
            function_call("weather", {"city": "Bonn"}),
        ),
        reply(text("It is sunny.")),
    )
    config = types.GenerateContentConfig(tools=[weather])
    response = sdk.models.generate_content(model=MODEL, contents="How is the weather?", config=config)
    assert response.text == "It is sunny." and asked == [("Ulm", 1), ("Bonn", 1)]
    first, last = backend.dispatches
    declared = first.body["tools"][0]
    assert declared["name"] == "weather" and declared["parameters"]["properties"]["city"]["type"] == "string"
    kinds = [one["type"] for one in last.body["input"] if one.get("role") != "developer"]
    assert kinds == ["message", "reasoning", *["function_call"] * 2, *["function_call_output"] * 2]
    assert [one["encrypted_content"] for one in last.body["input"] if one["type"] == "reasoning"] == ["blob"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat(sdk, backend, stream):
    backend.script(reply(reasoning(None, "blob"), text("One two.", chunks=3)), reply(text("Three.")))
    chat = sdk.chats.create(model=MODEL)
    for question, answer in (("Begin", "One two."), ("Go on", "Three.")):
        if stream:
            assert "".join(piece.text for piece in chat.send_message_stream(question)) == answer
        else:
            assert chat.send_message(question).text == answer
    items = [one for one in backend.dispatches[-1].body["input"] if one.get("role") != "developer"]
    assert [one["type"] for one in items] == ["message", "reasoning", "message", "message"]
    assert [part["text"] for part in items[2]["content"]] == ["One two."]
    assert len({request.header("session-id") for request in backend.dispatches}) == 1


class City(pydantic.BaseModel):
    name: str
    people: int


def test_structured_output(sdk, backend):
    backend.script(reply(text('{"name": "Ulm", "people": 130000}')))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    response = sdk.models.generate_content(model=MODEL, contents="A city", config=config)
    assert response.parsed == City(name="Ulm", people=130000)
    output = backend.dispatches[-1].body["text"]["format"]
    assert (output["type"], output["strict"]) == ("json_schema", True)
    assert output["schema"]["properties"]["people"]["type"] == "integer"


@pytest.mark.parametrize("stream", [False, True])
def test_structured_output_that_is_no_object(sdk, backend, stream):
    """The Responses API takes only objects, so the array travels in one."""
    backend.script(reply(text('{"value": [{"name": "Ulm", "people": 130000}]}', chunks=9)))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=list[City])
    if stream:
        pieces = sdk.models.generate_content_stream(model=MODEL, contents="Cities", config=config)
        assert json.loads("".join(piece.text for piece in pieces)) == [{"name": "Ulm", "people": 130000}]
    else:
        response = sdk.models.generate_content(model=MODEL, contents="Cities", config=config)
        assert response.parsed == [City(name="Ulm", people=130000)]
    assert backend.dispatches[-1].body["text"]["format"]["schema"]["type"] == "object"


def test_an_image_and_a_document(sdk, backend, red_png):
    backend.script(reply(text("Seen.")))
    contents = [
        types.Part.from_bytes(data=red_png, mime_type="image/png"),
        types.Part.from_bytes(data=b"%PDF-1.4", mime_type="application/pdf"),
        "What is this?",
    ]
    sdk.models.generate_content(model=MODEL, contents=contents)
    parts = backend.dispatches[-1].body["input"][-1]["content"]
    assert [part["type"] for part in parts] == ["input_image", "input_file", "input_text"]
    assert base64.b64decode(parts[0]["image_url"].partition(",")[2], validate=True) == red_png


def test_all_that_tunes_a_request(sdk, backend):
    backend.script(reply(text("Hello.")))
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        seed=5,
        max_output_tokens=100,
        stop_sequences=["STOP"],
        candidate_count=1,
        presence_penalty=0.1,
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HATE_SPEECH", threshold="BLOCK_NONE")],
        tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="AUTO")),
        thinking_config=types.ThinkingConfig(thinking_level="LOW"),
    )
    assert sdk.models.generate_content(model=MODEL, contents="Hi", config=config).text == "Hello."
    assert backend.dispatches[-1].body["reasoning"]["effort"] == "low"


def test_counting_and_models(sdk):
    counted = sdk.models.count_tokens(model=MODEL, contents="Hello there")
    assert counted.total_tokens > 1
    models = list(sdk.models.list(config={"page_size": 1}))
    assert f"models/{MODEL}" in [model.name for model in models] and len(models) > 1
    assert "generateContent" in sdk.models.get(model=MODEL).supported_actions


def test_errors(sdk, backend, codex_gateway):
    with pytest.raises(errors.ClientError, match="temperature") as caught:
        sdk.models.generate_content(model=MODEL, contents="Hi", config={"temperature": 7})
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    with pytest.raises(errors.ClientError) as caught:
        sdk.models.generate_content(model="none", contents="Hi")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    wrong = make_sdk(codex_gateway, key="wrong")  # it closes its connections when nobody holds it
    with pytest.raises(errors.ClientError) as caught:
        wrong.models.generate_content(model=MODEL, contents="Hi")
    assert (caught.value.code, caught.value.status) == (401, "UNAUTHENTICATED")
    backend.script(
        refusal(429, {"error": {"type": "usage_limit_reached", "message": "Enough.", "resets_in_seconds": 9}})
    )
    with pytest.raises(errors.ClientError, match="Enough") as caught:
        sdk.models.generate_content(model=MODEL, contents="Hi")
    (info,) = caught.value.details["error"]["details"]
    assert info == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "9s"}
    backend.script(reply(text("Half an answer"), cut_after=4))
    with pytest.raises(errors.APIError):
        list(sdk.models.generate_content_stream(model=MODEL, contents="Hi"))


def test_asynchronously(sdk, backend):
    async def answers():
        whole = await sdk.aio.models.generate_content(model=MODEL, contents="Hi")
        pieces = await sdk.aio.models.generate_content_stream(model=MODEL, contents="Hi")
        return whole.text, "".join([piece.text async for piece in pieces])

    backend.script(*[reply(text("Hello there.", chunks=3))] * 2)
    assert asyncio.run(answers()) == ("Hello there.", "Hello there.")


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_has_the_type_of_the_sdk(client, backend, stream):
    """And no other fields: the type forbids them."""
    cited = {"type": "url_citation", "url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 3}
    part = {"type": "output_text", "text": "Yes.", "annotations": [cited], "logprobs": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    action = {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://b.example/"}]}
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": action}
    call = function_call("f", {"a": [1, {"b": None}]}, chunks=5)
    backend.script(reply(reasoning("Hm.", "blob"), item(search), item(message), call))
    tools = [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]
    config = {"thinkingConfig": {"includeThoughts": True}}
    answer = client.generate("Hi", stream=stream, tools=tools, generationConfig=config)
    pieces = answer.events() if stream else [answer.json()]
    checked = [types.GenerateContentResponse.model_validate(piece) for piece in pieces]
    assert checked[-1].candidates[0].grounding_metadata.grounding_chunks[0].web.uri == "https://b.example/"
    parts = [part for piece in checked for part in piece.candidates[0].content.parts]
    assert {"thought", "text", "function_call"} <= {name for part in parts for name in part.model_fields_set}
