"""Which requests are forks of a conversation, and so in a window of their own: what the backend sees."""

import json

import openai
import pytest
from floway_codex.simulator import refusal, reply
from websockets.sync.client import connect

from . import gateways
from .gateways import MODEL, user


@pytest.fixture
def backend(front):
    yield front.simulator
    assert front.simulator.findings == []


@pytest.fixture
def key(front):
    """An API key without conversations."""
    return gateways.create_key(front.gateway)


@pytest.fixture
def sdk(front, key):
    with openai.OpenAI(base_url=f"{front.gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
def websocket(front, key):
    """Sends a message, and returns the id of its response."""
    url = f"ws{front.gateway.url.removeprefix('http')}/v1/responses"
    with connect(url, additional_headers={"authorization": f"Bearer {key}"}, proxy=None) as opened:

        def ask(said, store, previous):
            fields = {"model": MODEL, "input": said, "store": store, "previous_response_id": previous}
            opened.send(json.dumps({"type": "response.create", **fields}))
            while (event := json.loads(opened.recv(20)))["type"] not in ("response.completed", "error"):
                pass
            assert event["type"] == "response.completed", event
            return event["response"]["id"]

        yield ask


def windows(backend):
    return [int(request.header("x-codex-window-id").rpartition(":")[2]) for request in backend.dispatches]


def sessions(backend):
    return {request.header("session-id") for request in backend.dispatches}


def test_an_answer_without_output_does_not_fork_a_conversation_sent_whole(backend, sdk):
    history = [user("Say 0")]
    answer = sdk.responses.create(model=MODEL, input=history)
    history += [*(item.model_dump(exclude_none=True) for item in answer.output), user("Say 1")]
    backend.script(reply())
    assert sdk.responses.create(model=MODEL, input=history).output == []
    for number in (2, 3):
        history.append(user(f"Say {number}"))
        answer = sdk.responses.create(model=MODEL, input=history)
        history += [item.model_dump(exclude_none=True) for item in answer.output]
    assert len(sessions(backend)) == 1
    assert windows(backend) == [0, 0, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [refusal(503, {"error": {"message": "busy"}}), refusal(429, {"error": {}})])
def test_a_request_that_is_sent_again_after_a_refusal_is_no_fork(backend, sdk, failure, stream):
    first = sdk.responses.create(model=MODEL, input="Say 0")
    retried = sdk.with_options(max_retries=2)
    backend.script(failure, failure)
    answer = retried.responses.create(model=MODEL, input="Say 1", previous_response_id=first.id, stream=stream)
    assert not stream or [event.type for event in answer][-1] == "response.completed"
    assert windows(backend) == [0, 0, 0, 0]
    backend.script(failure, failure)
    history = [user("Say 0"), *(item.model_dump(exclude_none=True) for item in first.output), user("Say 2")]
    for _ in range(2):
        retried.responses.create(model=MODEL, input=history)
    numbers = windows(backend)[4:]
    assert 0 not in numbers and numbers[-2] != numbers[-1]


@pytest.mark.parametrize("stored", [(True, False, False, True, True), (True, False, True, False), (False, True, True)])
def test_a_websocket_that_stores_some_responses_counts_no_forks(backend, websocket, stored):
    previous = None
    for number, store in enumerate(stored):
        previous = websocket(f"Say {number}", store, previous)
    assert len(sessions(backend)) == 1
    assert windows(backend) == [0] * len(stored)


def test_a_websocket_that_continues_a_response_twice_forks_it(backend, websocket):
    first = websocket("Say 0", True, None)
    left = websocket("Say 1", False, first)
    right = websocket("Say 2", False, first)
    for previous in (left, left, right):
        websocket("Say 3", True, previous)
    first_branch, forks = [0, 1, 3], [2, 4, 5]
    numbers = windows(backend)
    assert {numbers[position] for position in first_branch} == {0}
    assert 0 not in {numbers[position] for position in forks}
