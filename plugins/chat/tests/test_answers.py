"""What a chat client gets of the answers of a Responses upstream, streamed and whole."""

import itertools
import json

import pytest

from floway_core.testing import Reply, Step, event, message_stream
from floway_core.testing.events import (
    USAGE,
    failed_stream,
    function_call_item,
    items_stream,
    message_item,
    parse,
    response,
)

from .chunks import join

REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm."}, {"type": "summary_text", "text": "So."}],
    "encrypted_content": "BLOB",
}
CUSTOM = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** x"}
LONG_ARGUMENTS = json.dumps({"city": "Bonn", "days": list(range(20))})


def both(client, upstream, stream, **fields):
    """The answer to one request, whole and joined from its chunks."""
    upstream.script(Reply(stream), Reply(stream))
    whole, streamed = (client.chat(stream=value, **fields) for value in (False, True))
    assert whole.status == streamed.status == 200, whole.body
    return whole.json(), streamed.body


def test_a_text(client, upstream):
    whole, stream = both(client, upstream, message_stream("Hello there."), stream_options={"include_usage": True})
    assert whole["object"] == "chat.completion" and whole["id"].startswith("chatcmpl-")
    assert whole["created"] == 1700000000 and whole["model"] == "model-1" and whole["system_fingerprint"]
    (choice,) = whole["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello there.", "refusal": None, "annotations": []}
    assert choice["finish_reason"] == "stop" and choice["index"] == 0 and choice["logprobs"] is None
    assert whole["usage"] == {
        "prompt_tokens": USAGE["input_tokens"],
        "completion_tokens": USAGE["output_tokens"],
        "total_tokens": USAGE["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    told = join(stream)
    assert told["content"] == "Hello there." and told["finish_reason"] == "stop" and told["usage"] == whole["usage"]
    chunks = parse(stream)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert chunks[-1]["choices"] == [] and all(chunk["usage"] is None for chunk in chunks[:-1])
    assert stream.endswith(b"data: [DONE]\n\n") and stream.count(b"[DONE]") == 1


def test_usage_only_where_it_is_wanted(client, upstream):
    _, stream = both(client, upstream, message_stream())
    assert b"usage" not in stream and all(chunk["choices"] for chunk in parse(stream))


def test_calls_of_tools(client, upstream):
    items = [message_item("Let me see."), function_call_item("get_weather", LONG_ARGUMENTS), CUSTOM]
    whole, stream = both(client, upstream, items_stream(items, usage=USAGE))
    message, told = whole["choices"][0]["message"], join(stream)
    assert whole["choices"][0]["finish_reason"] == told["finish_reason"] == "tool_calls"
    assert message["content"] == told["content"] == "Let me see."
    function = {"name": "get_weather", "arguments": LONG_ARGUMENTS}
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": function},
        {"id": "call_2", "type": "custom", "custom": {"name": "patch", "input": "*** x"}},
    ]
    assert told["calls"] == {
        0: {"id": "call_1", "type": "function", **function},
        1: {"id": "call_2", "type": "custom", "name": "patch", "arguments": "*** x"},
    }


def test_interleaved_deltas_of_two_calls(client, upstream):
    numbers = itertools.count()

    def numbered(type, **content):
        return event(type, sequence_number=next(numbers), **content)

    calls = [function_call_item("f", '{"a":1}', id=f"fc_{index}", call_id=f"call_{index}") for index in (0, 1)]
    stream = [numbered("response.created", response=response())]
    for index, call in enumerate(calls):
        started = {**call, "arguments": "", "status": "in_progress"}
        stream.append(numbered("response.output_item.added", output_index=index, item=started))
    for piece, index in itertools.product(('{"a"', ":1}"), (0, 1)):
        position = {"item_id": f"fc_{index}", "output_index": index}
        stream.append(numbered("response.function_call_arguments.delta", **position, delta=piece))
    for index, call in enumerate(calls):
        stream.append(numbered("response.output_item.done", output_index=index, item=call))
    stream.append(numbered("response.completed", response=response("completed", output=calls, usage=USAGE)))
    whole, streamed = both(client, upstream, stream)
    told = join(streamed)["calls"]
    assert [call["id"] for call in whole["choices"][0]["message"]["tool_calls"]] == ["call_0", "call_1"]
    assert [(call["id"], call["arguments"]) for call in told.values()] == [("call_0", '{"a":1}'), ("call_1", '{"a":1}')]


def test_a_deprecated_function_call(client, upstream):
    stream = items_stream([function_call_item("f", "{}")], usage=USAGE)
    whole, streamed = both(client, upstream, stream, functions=[{"name": "f", "parameters": {}}])
    message, told = whole["choices"][0]["message"], [chunk["choices"][0] for chunk in parse(streamed)]
    assert message["function_call"] == {"name": "f", "arguments": "{}"} and "tool_calls" not in message
    assert whole["choices"][0]["finish_reason"] == told[-1]["finish_reason"] == "function_call"
    calls = [choice["delta"]["function_call"] for choice in told if "function_call" in choice["delta"]]
    assert calls == [{"name": "f", "arguments": ""}, {"arguments": "{}"}]


def test_reasoning(client, upstream):
    whole, stream = both(client, upstream, items_stream([REASONING, message_item("Hi.")], usage=USAGE))
    message, told = whole["choices"][0]["message"], join(stream)
    assert message["reasoning_content"] == told["reasoning_content"] == "Hm.\n\nSo."
    assert message["reasoning_details"] == told["reasoning_details"]
    assert [(entry["type"], entry["id"]) for entry in message["reasoning_details"]] == [
        ("reasoning.summary", "rs_1"),
        ("reasoning.summary", "rs_1"),
        ("reasoning.encrypted", "rs_1"),
    ]


def test_reasoning_in_deltas(client, upstream):
    position = {"item_id": "rs_1", "output_index": 0}
    added = {**REASONING, "summary": []}
    stream = [
        event("response.created", response=response()),
        event("response.output_item.added", output_index=0, item=added),
        *(
            event("response.reasoning_summary_text.delta", **position, summary_index=index, delta=delta)
            for index, delta in ((0, "H"), (0, "m."), (1, "So."))
        ),
        event("response.output_item.done", output_index=0, item=REASONING),
        event("response.completed", response=response("completed", output=[REASONING], usage=USAGE)),
    ]
    upstream.script(Reply(stream))
    assert join(client.chat(stream=True).body)["reasoning_content"] == "Hm.\n\nSo."


def test_a_refusal(client, upstream):
    part = {"type": "refusal", "refusal": "I will not."}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    whole, stream = both(client, upstream, items_stream([item], usage=USAGE))
    assert whole["choices"][0]["message"]["refusal"] == join(stream)["refusal"] == "I will not."
    assert whole["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize(
    ("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("other", "length")]
)
def test_an_incomplete_answer(client, upstream, reason, finish):
    stream = message_stream("Half", incomplete_details={"reason": reason})
    stream[-1] = (
        stream[-1]
        .replace(b"response.completed", b"response.incomplete")
        .replace(b'"status":"completed","model"', b'"status":"incomplete","model"')
    )
    whole, streamed = both(client, upstream, stream)
    assert whole["choices"][0]["finish_reason"] == join(streamed)["finish_reason"] == finish


def test_citations(client, upstream):
    item = message_item("See here.")
    citation = {"type": "url_citation", "start_index": 0, "end_index": 3, "title": "T", "url": "https://x"}
    item["content"][0]["annotations"] = [citation, {"type": "file_citation"}]
    whole, stream = both(client, upstream, items_stream([item], usage=USAGE))
    del citation["type"]
    expected = [{"type": "url_citation", "url_citation": citation}]
    assert whole["choices"][0]["message"]["annotations"] == join(stream)["annotations"] == expected


def test_log_probabilities(client, upstream):
    entry = {"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -2.0}]}
    stream = message_stream("é", pieces=1)
    told = b'"logprobs":[%s]' % json.dumps(entry).encode()
    stream = [
        piece.replace(b'"logprobs":[]', told).replace(b'"annotations":[]', b'"annotations":[],%s' % told)
        for piece in stream
    ]
    whole, streamed = both(client, upstream, stream, logprobs=True, top_logprobs=1)
    expected = {**entry, "bytes": [195, 169], "top_logprobs": [{"token": "e", "logprob": -2.0, "bytes": [101]}]}
    assert whole["choices"][0]["logprobs"] == {"content": [expected], "refusal": None}
    told = [chunk["choices"][0]["logprobs"] for chunk in parse(streamed)]
    assert [each for each in told if each] == [{"content": [expected], "refusal": None}]
    assert join(streamed)["content"] == "é"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ("END", "one two "),
        (["zzz", "wo"], "one t"),
        ("three END four five", "one two "),
        ("nowhere", None),
        ("five!", None),
    ],
)
@pytest.mark.parametrize("pieces", [1, 3, 24])
def test_stop_sequences(client, upstream, stop, expected, pieces):
    text = "one two three END four five"
    if stop == "END":
        expected = "one two three "
    whole, stream = both(client, upstream, message_stream(text, pieces=pieces), stop=stop)
    assert whole["choices"][0]["message"]["content"] == join(stream)["content"] == (expected or text)
    assert whole["choices"][0]["finish_reason"] == "stop"


def test_nothing_follows_a_stop_sequence(client, upstream):
    items = [message_item("one END two"), REASONING, function_call_item("get_weather", "{}"), message_item("three")]
    whole, stream = both(client, upstream, items_stream(items, usage=USAGE), stop="END")
    (choice,), told = whole["choices"], join(stream)
    assert choice["message"] == {"role": "assistant", "content": "one ", "refusal": None, "annotations": []}
    assert choice["finish_reason"] == told["finish_reason"] == "stop"
    assert told["content"] == "one " and told["calls"] == {} and "reasoning_content" not in told


def test_calls_in_front_of_a_stop_sequence_are_told(client, upstream):
    items = [function_call_item("get_weather", "{}"), message_item("one END two")]
    whole, stream = both(client, upstream, items_stream(items, usage=USAGE), stop="END")
    (choice,), told = whole["choices"], join(stream)
    assert choice["finish_reason"] == told["finish_reason"] == "tool_calls"
    assert len(choice["message"]["tool_calls"]) == len(told["calls"]) == 1


def test_separators_of_lines_are_escaped(client, upstream):
    text = "a\u2028b\u2029c\x85d"
    _, stream = both(client, upstream, message_stream(text, pieces=1))
    assert join(stream)["content"] == text
    assert b"\xe2\x80\xa8" not in stream and b"\xe2\x80\xa9" not in stream


def test_a_failure_before_the_answer(client, upstream):
    upstream.script(Reply(failed_stream("rate_limit_exceeded", "Slow down.")))
    answer = client.chat()
    assert answer.status == 429
    assert answer.json()["error"] == {
        "message": "Slow down.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_a_failure_in_a_stream(client, upstream):
    stream = [*message_stream()[:5], *failed_stream("server_error", "It broke.")[1:]]
    upstream.script(Reply(stream))
    body = client.chat(stream=True).body
    *_, last = parse(body)
    assert last["error"]["message"] == "It broke." and last["error"]["code"] == "server_error"
    assert body.count(b'"error"') == 1 and b"[DONE]" not in body and b'"finish_reason":"' not in body


def test_a_stream_that_is_cut(client, upstream):
    upstream.script(Reply([*message_stream()[:5], Step.CUT]))
    body = client.chat(stream=True).body
    assert parse(body)[-1]["error"]["code"] == "upstream_disconnected" and b"[DONE]" not in body


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_of_the_upstream_is_relayed(client, upstream, stream):
    error = {"message": "Too long.", "type": "invalid_request_error", "param": "input[3].content", "code": "too_long"}
    body = json.dumps({"error": error}).encode()
    upstream.script(Reply([body], 400, [("content-type", "application/json")]))
    answer = client.chat(stream=stream)
    assert answer.status == 400 and answer.json()["error"] == {**error, "param": "messages"}


def test_a_hang_up_reaches_the_upstream(client, upstream):
    upstream.script(Reply([*message_stream()[:5], Step.HOLD]))
    answer = client.chat(stream=True)
    answer.read_until(b"Hell")
    answer.hang_up()
    assert upstream.requests[0].peer_gone.wait(60)
