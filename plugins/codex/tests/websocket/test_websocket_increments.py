"""What goes over a connection: only what is new, wherever that says the same."""

import pytest
from floway_codex.provider import CodexProvider
from floway_codex.simulator import reply, text

from floway_core.contexts import ApiKey, AttemptContext, ClientRequest
from floway_core.storage import upstreams

from ..conftest import NoClient
from .asking import (
    STARTED,
    THREAD,
    USER,
    drive,
    kinds,
    outputs,
    with_settings,
)


def test_a_conversation_shares_a_connection_and_sends_what_is_new(ask, simulator):
    history = [USER]
    for number in range(3):
        status, content = ask(history)
        assert status == 200 and b"event: response.completed\ndata: {" in content
        history = [*history, *outputs(content), {"role": "user", "content": f"and {number}"}]
    assert kinds(simulator) == [*STARTED, "increment", "increment"]
    assert [len(frame.body["input"]) for frame in simulator.frames] == [0, 1, 1, 1]
    assert simulator.findings == []


@pytest.mark.parametrize(
    "change",
    [
        {"instructions": "Be brief."},
        {"reasoning": {"effort": "high"}},
        {"text": {"format": {"type": "json_object"}}},
        {"tools": [{"type": "function", "name": "run", "parameters": {"type": "object"}}]},
    ],
)
def test_after_a_change_the_whole_input_goes_over_the_same_connection(ask, simulator, change):
    history = [USER]
    history = [*history, *outputs(ask(history)[1]), USER]
    assert ask(history, **change)[0] == 200
    assert kinds(simulator) == [*STARTED, "whole"]


def test_an_edited_answer_is_no_increment(ask, simulator):
    (said,) = outputs(ask()[1])
    edited = {**said, "content": [{**said["content"][0], "text": "something else"}]}
    assert ask([USER, edited, USER])[0] == 200
    assert ask([{"role": "user", "content": "another beginning"}, said, USER])[0] == 200
    assert kinds(simulator) == [*STARTED, "whole", "whole"]


def test_the_increments_add_up_to_what_posts_send(ask, simulator, services):
    over_http = CodexProvider(with_settings(services, {"codex_transport": "http"}))
    history = [USER]
    for number in range(6):
        call = {"type": "function_call", "call_id": f"call_{number}", "name": "run", "arguments": "{}"}
        simulator.script(reply(text(f"answer {number}", chunks=3)))
        _, content = ask(history)
        history = [
            *history,
            *outputs(content),
            call,
            {**call, "type": "function_call_output", "output": "x" * 50},
            USER,
        ]
        history[-2].pop("name")
        history[-2].pop("arguments")
    assert ask(history)[0] == 200
    frame = simulator.frames[-1]
    post(over_http, services, history)
    (posted,) = simulator.dispatches
    assert "previous_response_id" in frame.body and len(frame.whole["input"]) == len(posted.body["input"])
    compared = zip(frame.whole["input"], posted.body["input"], strict=True)
    differing = [(there, here) for there, here in compared if there != here]
    # what the backend has said itself is not sent again, so it still has what clients leave out
    assert all(there["type"] == "message" and there["role"] == "assistant" for there, _ in differing)
    assert all(there["content"][0]["text"] == here["content"][0]["text"] for there, here in differing)


def post(over_http, services, history):
    (upstream,) = upstreams.all_rows(services.database)
    headers = {"session-id": THREAD, "thread-id": THREAD}
    body = {"model": "gpt-5.5", "input": history}
    request = ClientRequest("req_2", ApiKey("key_1", "test"), headers, body, True, NoClient())
    assert drive(AttemptContext("att_2", request, upstream, over_http, "gpt-5.5"))[0] == 200
