"""The OpenAI SDK's ``responses.connect()``: several turns on one WebSocket, with errors in between."""

import asyncio
import json

import openai
import pytest
from openai.resources.responses import Responses

from floway_core.testing import Reply, message_stream

pytestmark = pytest.mark.skipif(not hasattr(Responses, "connect"), reason="this SDK is too old")


@pytest.fixture
def options(gateway, fake_upstream):
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    headers = {"x-test-upstream": fake_upstream.url}
    return {"base_url": f"{gateway.url}/v1", "api_key": gateway.key, "default_headers": headers}


def texts(fake_upstream):
    return [item["content"][0]["text"] for item in json.loads(fake_upstream.requests[-1].body)["input"]]


def turn(connection, **fields):
    connection.response.create(model="model-1", **fields)
    for event in connection:
        if event.type in ("response.completed", "error"):
            return event
    raise AssertionError("the connection has ended")


def test_a_conversation(options, fake_upstream):
    with openai.OpenAI(**options).responses.connect() as connection:
        warm = turn(connection, input=[], generate=False, store=False).response
        assert warm.output_text == "" and warm.usage.total_tokens == 0
        first = turn(connection, input="One", store=False, previous_response_id=warm.id).response
        assert first.output_text == "Hello there."
        error = turn(connection, input="Two", previous_response_id="resp_unknown")
        assert (error.status, error.error.code, error.error.param) == (
            400,
            "previous_response_not_found",
            "previous_response_id",
        )
        connection.response.steer(input="faster", previous_response_id=first.id)
        assert connection.recv().error.code == "steering_not_supported"
        second = turn(connection, input="Two", store=False, previous_response_id=first.id).response
        assert second.previous_response_id == first.id
    assert texts(fake_upstream) == ["One", "Hello there.", "Two"]


def test_handlers_of_events_are_called(options):
    received = []
    with openai.OpenAI(**options).responses.connect() as connection:
        connection.on("response.output_text.delta", lambda event: received.append(event.delta))
        connection.on("response.completed", lambda event: connection.close())
        connection.response.create(model="model-1", input="Hi")
        connection.dispatch_events()
    assert "".join(received) == "Hello there."


def test_the_asynchronous_client(options):
    async def talk():
        async with openai.AsyncOpenAI(**options).responses.connect() as connection:
            answers = []
            for given in ("One", "Two"):
                await connection.response.create(model="model-1", input=given)
                async for event in connection:
                    if event.type == "response.completed":
                        answers.append(event.response.output_text)
                        break
            return answers

    assert asyncio.run(talk()) == ["Hello there."] * 2
