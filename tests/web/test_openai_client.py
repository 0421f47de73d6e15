"""The openai package, as its users use it, against the gateway."""

import json

import openai
import pytest

from floway_core.testing import Reply, Step, failed_stream, items_stream, message_stream
from floway_core.testing.events import function_call_item

JSON = [("content-type", "application/json")]


@pytest.fixture
def client(gateway, fake_upstream, openai_package):
    return openai_package(gateway.url, gateway.key, {"x-test-upstream": fake_upstream.url})


@pytest.mark.parametrize("empty_output", [True, False])
def test_create(client, fake_upstream, empty_output):
    fake_upstream.script(Reply(message_stream("Grüße 😀", empty_output=empty_output)))
    answer = client.responses.create(model="model-1", input="Hi")
    assert (answer.status, answer.output_text) == ("completed", "Grüße 😀")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 5)
    assert answer._request_id


def test_stream(client, fake_upstream):
    fake_upstream.script(Reply(message_stream("One two three", pieces=4)))
    events = list(client.responses.create(model="model-1", input="Hi", stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "One two three"
    assert events[-1].type == "response.completed"
    assert [e.sequence_number for e in events] == list(range(len(events)))


@pytest.mark.parametrize("empty_output", [True, False])
def test_the_stream_helper(client, fake_upstream, empty_output):
    fake_upstream.script(Reply(message_stream("One two three", empty_output=empty_output)))
    with client.responses.stream(model="model-1", input="Hi") as stream:
        kinds = [e.type for e in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert (final.output_text, final.status) == ("One two three", "completed")


def test_a_function_call_and_its_result(client, fake_upstream):
    call = function_call_item("add", '{"a":1,"b":2}', call_id="call_7")
    fake_upstream.script(Reply(items_stream([call], empty_output=True)), Reply(message_stream("3")))
    tool = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": False}
    history = [{"role": "user", "content": "1 + 2?"}]
    first = client.responses.create(model="model-1", input=history, tools=[tool])
    (asked,) = first.output
    assert (asked.type, asked.name, json.loads(asked.arguments)) == ("function_call", "add", {"a": 1, "b": 2})
    result = {"type": "function_call_output", "call_id": asked.call_id, "output": "3"}
    history += [asked.model_dump(exclude_none=True), result]
    second = client.responses.create(model="model-1", input=history, tools=[tool])
    assert second.output_text == "3"
    sent = json.loads(fake_upstream.requests[1].body)
    assert sent["input"] == [{"role": "user", "content": "1 + 2?"}, call, result]
    assert sent["tools"] == [tool]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_of_the_upstream(client, fake_upstream, status, error, stream):
    content = json.dumps({"error": {"message": "Nope.", "type": "t", "code": "c", "param": "p"}}).encode()
    fake_upstream.script(*[Reply([content], status, [*JSON, ("x-ratelimit-limit-requests", "3")])] * 2)
    with pytest.raises(error) as caught:
        client.responses.create(model="model-1", input="Hi", stream=stream)
    assert (caught.value.code, caught.value.param, caught.value.status_code) == ("c", "p", status)
    assert "Nope." in caught.value.message
    assert caught.value.response.headers["x-ratelimit-limit-requests"] == "3"
    assert caught.value.request_id


def test_errors_of_the_gateway(client, gateway):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="model-9", input="Hi")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as missing:
        client.responses.create(input="Hi")
    assert missing.value.code == "missing_required_parameter"
    with pytest.raises(openai.BadRequestError) as previous:
        client.responses.create(model="model-1", input="Hi", previous_response_id="resp_1")
    assert previous.value.code == "previous_response_not_found"
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="sk-floway-no").responses.create(model="model-1", input="Hi")
    assert stranger.value.code == "invalid_api_key"


def test_a_stream_that_breaks_is_an_error(client, fake_upstream):
    fake_upstream.script(Reply([*message_stream()[:5], Step.CUT]))
    with pytest.raises(openai.APIError, match="closed the connection"):
        list(client.responses.create(model="model-1", input="Hi", stream=True))


def test_a_failure_that_the_upstream_tells(client, fake_upstream):
    fake_upstream.script(*[Reply(failed_stream("rate_limit_exceeded", "Slow down."))] * 2)
    *_, last = client.responses.create(model="model-1", input="Hi", stream=True)
    assert (last.type, last.response.error.code) == ("response.failed", "rate_limit_exceeded")
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        client.responses.create(model="model-1", input="Hi")


def test_a_client_that_stops_reading(client, fake_upstream):
    fake_upstream.script(Reply([message_stream()[0], Step.HOLD]))
    stream = client.responses.create(model="model-1", input="Hi", stream=True)
    assert next(iter(stream)).type == "response.created"
    stream.close()
    assert fake_upstream.requests[0].peer_gone.wait(60)


def test_parameters_arrive_as_given(client, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    wanted = {"temperature": 0.5, "metadata": {"a": "b"}, "include": ["reasoning.encrypted_content"], "store": False}
    client.responses.create(model="model-1", input="Hi", reasoning={"effort": "low"}, **wanted)
    sent = json.loads(fake_upstream.requests[0].body)
    assert sent["reasoning"] == {"effort": "low"}
    assert {name: sent[name] for name in wanted} == wanted


def test_models(client):
    assert [model.id for model in client.models.list()] == ["model-1", "model-2", "org/model-3", "shared", "canned"]
    assert client.models.retrieve("model-2").owned_by == "wire"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("model-9")
