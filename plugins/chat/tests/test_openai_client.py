"""The openai package, as its users use it, at the chat door."""

import json

import openai
import pydantic
import pytest

from floway_core.testing import Reply, Step, failed_stream, items_stream, message_stream
from floway_core.testing.events import USAGE, function_call_item

HELLO = [{"role": "user", "content": "Hi"}]
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}


@pytest.fixture
def sdk(gateway, upstream):
    """A client that validates every answer."""
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1",
        api_key=gateway.key,
        max_retries=0,
        timeout=20,
        default_headers={"x-test-upstream": upstream.url},
        _strict_response_validation=True,
    ) as client:
        yield client


def test_a_completion(sdk, upstream):
    upstream.script(Reply(message_stream("Grüße 😀")))
    answer = sdk.chat.completions.create(model="model-1", messages=HELLO)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("Grüße 😀", "stop")
    assert answer.usage.prompt_tokens_details.cached_tokens == 3 and answer._request_id


def test_a_stream(sdk, upstream):
    upstream.script(Reply(message_stream("One two three", pieces=4)))
    options = {"include_usage": True}
    chunks = list(sdk.chat.completions.create(model="model-1", messages=HELLO, stream=True, stream_options=options))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == "One two three"
    assert chunks[-1].usage.total_tokens == USAGE["total_tokens"] and chunks[-1].choices == []


def test_the_helper_for_streams_with_a_tool_and_a_schema(sdk, upstream):
    class City(pydantic.BaseModel):
        name: str

    tool = openai.pydantic_function_tool(City, name="look")
    upstream.script(Reply(items_stream([function_call_item("look", '{"name":"Bonn"}')], usage=USAGE)))
    with sdk.chat.completions.stream(model="model-1", messages=HELLO, tools=[tool]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].message.tool_calls[0].function.parsed_arguments == City(name="Bonn")
    upstream.script(Reply(message_stream('{"name": "Ulm"}')))
    parsed = sdk.chat.completions.parse(model="model-1", messages=HELLO, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Ulm")
    format = json.loads(upstream.requests[-1].body)["text"]["format"]
    assert format["type"] == "json_schema" and format["strict"] is True and format["name"] == "City"


def test_a_tool_loop_that_sends_the_sdks_own_messages_back(sdk, upstream):
    items = [REASONING, function_call_item("look", '{"at": 1}', call_id="call_12345678901234567890")]
    upstream.script(Reply(items_stream(items, usage=USAGE)), Reply(message_stream("Done.")))
    first = sdk.chat.completions.create(model="model-1", messages=HELLO).choices[0].message
    output = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "here"}
    second = sdk.chat.completions.create(model="model-1", messages=[*HELLO, first, output])
    assert second.choices[0].message.content == "Done."
    sent = json.loads(upstream.requests[-1].body)["input"]
    assert [item["type"] for item in sent] == ["message", "reasoning", "function_call", "function_call_output"]


def test_errors(sdk, upstream):
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="model-1", messages=[{"role": "user", "content": 5}])
    assert bad.value.param == "messages[0].content" and not upstream.requests
    upstream.script(Reply(failed_stream("rate_limit_exceeded", "Slow down.")))
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        sdk.chat.completions.create(model="model-1", messages=HELLO)
    upstream.script(Reply([*message_stream()[:5], Step.CUT]))
    with pytest.raises(openai.APIError):
        list(sdk.chat.completions.create(model="model-1", messages=HELLO, stream=True))


def test_the_models(sdk):
    assert [model.id for model in sdk.models.list()] == ["model-1"]
