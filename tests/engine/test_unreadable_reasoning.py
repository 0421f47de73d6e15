"""Reasoning that the upstream cannot read, because another account has made it, is left out."""

import json

import pytest

from floway_core.testing import Reply, message_item, message_stream

JSON = [("content-type", "application/json")]
UNREADABLE = {
    "message": "It could not be verified.",
    "type": "invalid_request_error",
    "code": "invalid_encrypted_content",
}
REFUSAL = Reply([json.dumps({"error": {**UNREADABLE, "param": None}}).encode()], 400, JSON, "length")
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed elsewhere"}
HISTORY = [{"role": "user", "content": "Hi"}, REASONING, message_item("Hello."), {"role": "user", "content": "And?"}]


def types(request):
    return [item.get("type", "message") for item in json.loads(request.body)["input"]]


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_left_out(ask, fake_upstream, stream):
    fake_upstream.script(REFUSAL, Reply(message_stream("Well.")))
    answer = ask.create(HISTORY, stream=stream)
    assert answer.status == 200 and b"Well." in answer.body
    first, second = map(types, fake_upstream.requests)
    assert first == ["message", "reasoning", "message", "message"] and second == ["message"] * 3


def test_a_refusal_that_nothing_mends_is_relayed(ask, fake_upstream):
    fake_upstream.script(REFUSAL, REFUSAL)
    answer = ask.create(HISTORY)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_encrypted_content")
    assert len(fake_upstream.requests) == 2
    fake_upstream.forget()
    fake_upstream.script(REFUSAL)
    assert ask.create("Hi").status == 400 and len(fake_upstream.requests) == 1, "there is no reasoning to leave out"
