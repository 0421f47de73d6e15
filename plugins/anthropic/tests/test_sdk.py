"""Anthropic's Python SDK, strict about types, through a running gateway to the simulated Codex backend."""

import json

import anthropic
import pydantic
import pytest
from floway_codex.simulator import function_call, reasoning, refusal, reply, text

from .conftest import MODEL

HELLO = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def sdk(codex_gateway, backend):
    return anthropic.Anthropic(base_url=codex_gateway.url, api_key=codex_gateway.key, max_retries=0)


def test_a_message(sdk, backend):
    backend.script(reply(text("Hello."), cached_tokens=2))
    message = sdk.messages.create(model=MODEL, max_tokens=100, messages=HELLO)
    assert message.content[0].text == "Hello." and message.stop_reason == "end_turn"
    assert message.usage.cache_read_input_tokens == 2 and message._request_id


@pytest.mark.parametrize("strict", [True, False])
def test_the_helpers_for_streams(codex_gateway, backend, strict):
    sdk = anthropic.Anthropic(
        base_url=codex_gateway.url, api_key=codex_gateway.key, max_retries=0, _strict_response_validation=strict
    )
    backend.script(reply(reasoning("Hm.", "blob", chunks=2), text("Hello there.", chunks=4)))
    thinking = {"type": "adaptive"}
    with sdk.messages.stream(model=MODEL, max_tokens=100, messages=HELLO, thinking=thinking) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert {"thinking", "signature", "text", "content_block_stop", "message_stop"} <= set(kinds)
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].thinking == "Hm." and final.content[1].text == "Hello there."
    assert final.usage.input_tokens > 0 and final.usage.output_tokens > 0
    backend.script(reply(text("Hello there.", chunks=4)))
    with sdk.messages.stream(model=MODEL, max_tokens=100, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == "Hello there."


def test_the_tool_runner(sdk, backend):
    asked = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
            city: Where.
        """
        asked.append(city)
        return "Sunny"

    backend.script(
        reply(text("I look."), function_call("weather", {"city": "Ulm"}, chunks=3)), reply(text("It is sunny."))
    )
    runner = sdk.beta.messages.tool_runner(model=MODEL, max_tokens=100, messages=HELLO, tools=[weather])
    final = runner.until_done()
    assert final.content[0].text == "It is sunny." and asked == ["Ulm"]
    last = backend.dispatches[-1].body["input"]
    assert [item["type"] for item in last] == ["message", "message", "function_call", "function_call_output"]
    assert last[-1]["output"] == "Sunny"


def test_structured_output(sdk, backend):
    class City(pydantic.BaseModel):
        name: str
        people: int

    backend.script(reply(text('{"name": "Ulm", "people": 130000}')))
    parsed = sdk.messages.parse(model=MODEL, max_tokens=100, messages=HELLO, output_format=City)
    assert parsed.parsed_output == City(name="Ulm", people=130000)
    output = backend.dispatches[-1].body["text"]["format"]
    assert (output["type"], output["strict"]) == ("json_schema", True)
    assert set(output["schema"]["required"]) == {"name", "people"}


def test_an_image_and_a_document(sdk, backend, red_png):
    import base64

    data = base64.b64encode(red_png).decode()
    content = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="}},
    ]
    backend.script(reply(text("Seen.")))
    sdk.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": content}])
    kinds = [part["type"] for part in backend.dispatches[-1].body["input"][0]["content"]]
    assert kinds == ["input_image", "input_file"]


def test_a_conversation_with_thinking_goes_on(sdk, backend):
    thinking = {"type": "enabled", "budget_tokens": 2000}
    backend.script(reply(reasoning("Hm.", "blob"), text("One.")), reply(text("Two.")))
    first = sdk.messages.create(model=MODEL, max_tokens=4000, messages=HELLO, thinking=thinking)
    history = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": "Go on"}]
    sdk.messages.create(model=MODEL, max_tokens=4000, messages=history, thinking=thinking)
    blobs = [item["encrypted_content"] for item in backend.dispatches[-1].body["input"] if item["type"] == "reasoning"]
    assert blobs == ["blob"]


def test_counting_and_models(sdk):
    assert sdk.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 3
    models = list(sdk.models.list(limit=1))
    assert MODEL in [model.id for model in models] and len(models) > 1
    assert sdk.models.retrieve(MODEL).id == MODEL


def test_errors(sdk, backend, codex_gateway):
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        sdk.messages.create(model=MODEL, max_tokens=-1, messages=HELLO)
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.create(model="none", max_tokens=1, messages=HELLO)
    wrong = anthropic.Anthropic(base_url=codex_gateway.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        wrong.messages.create(model=MODEL, max_tokens=1, messages=HELLO)
    backend.script(refusal(429, {"error": {"type": "usage_limit_reached", "message": "Enough."}}))
    with pytest.raises(anthropic.RateLimitError, match="Enough") as caught:
        sdk.messages.create(model=MODEL, max_tokens=1, messages=HELLO)
    assert caught.value.request_id
    backend.script(reply(text("Half an answer"), cut_after=4))
    with (
        pytest.raises(anthropic.APIStatusError),
        sdk.messages.stream(model=MODEL, max_tokens=1, messages=HELLO) as stream,
    ):
        stream.get_final_message()


def test_every_event_is_one_of_the_sdks_types(codex_gateway, backend):
    """Validated while it streams, without the SDK's leniency about unknown fields of events."""
    sdk = anthropic.Anthropic(
        base_url=codex_gateway.url, api_key=codex_gateway.key, max_retries=0, _strict_response_validation=True
    )
    backend.script(
        reply(reasoning(None, "blob"), text("Hello."), function_call("f", {"a": [1, {"b": None}]}, chunks=5))
    )
    tool = {"name": "f", "input_schema": {"type": "object"}}
    arguments = {
        "model": MODEL,
        "max_tokens": 100,
        "messages": HELLO,
        "tools": [tool],
        "thinking": {"type": "adaptive"},
    }
    kinds = [event.type for event in sdk.messages.create(**arguments, stream=True)]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3
    assert json.dumps(kinds[-2:]) == '["message_delta", "message_stop"]'
