"""What clients get of chat servers, whatever they send: the streams of ``server_streams``, and whole answers."""

import json

import pytest

from floway_core.testing import Reply, Step
from floway_core.testing.events import parse

from .server_failures import FAILURES
from .server_streams import CASES, NEWS, STOP, USAGE, WEATHER, chunk
from .upstreams import as_json

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def texts(response, item_type, field, name="text"):
    items = [item for item in response["output"] if item["type"] == item_type]
    return "".join(part.get(name, "") for item in items for part in item.get(field) or ())


def check(case, response):
    assert response["status"] == case.status
    assert texts(response, "message", "content") == case.text
    assert texts(response, "message", "content", "refusal") == case.refusal
    assert texts(response, "reasoning", "content") == case.reasoning
    calls = [
        (item["call_id"], item["name"], item["arguments"])
        for item in response["output"]
        if item["type"] == "function_call"
    ]
    assert [call[1:] for call in calls] == [expected[1:] for expected in case.calls]
    assert all(expected[0] in (None, call[0]) for call, expected in zip(calls, case.calls, strict=True))
    assert len({call_id for call_id, _, _ in calls}) == len(calls) and all(call_id for call_id, _, _ in calls)
    usage = response["usage"] or {"input_tokens": 0, "output_tokens": 0}
    details = [usage.get(name, {}) for name in ("input_tokens_details", "output_tokens_details")]
    cached, thought = details[0].get("cached_tokens", 0), details[1].get("reasoning_tokens", 0)
    assert (usage["input_tokens"], cached, usage["output_tokens"], thought) == case.usage


@pytest.mark.parametrize("name", CASES)
def test_a_stream(caller, server, name):
    """One event at a time, all at once, and cut in all places."""
    case = CASES[name]
    whole = b"".join(case.chunks)
    pieces = [whole[start : start + 7] for start in range(0, len(whole), 7)]
    for chunks in (case.chunks, [whole], pieces):
        server.script(Reply(chunks))
        events = caller.stream(tools=[TOOL]).events()
        assert events[-1]["type"] == f"response.{case.status}"
        check(case, events[-1]["response"])
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert deltas == case.text


@pytest.mark.parametrize("name", CASES)
def test_a_stream_for_a_client_that_does_not_want_one(caller, server, name):
    server.script(Reply(CASES[name].chunks))
    answer = caller.create(tools=[TOOL])
    assert answer.status == 200, answer.body
    check(CASES[name], answer.json())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure(caller, server, name, stream):
    chunks, message = FAILURES[name]
    server.script(Reply(chunks))
    answer = caller.create(stream=stream)
    if stream and answer.status == 200:
        last = answer.events()[-1]
        assert last["type"] == "response.failed" and message in last["response"]["error"]["message"]
        assert b"response.completed" not in answer.received
    else:
        assert answer.status >= 500 and message in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_that_breaks(caller, server, stream):
    server.script(Reply([chunk("Hel"), Step.RESET]))
    answer = caller.create(stream=stream)
    if stream:
        assert answer.events()[-1]["type"] == "response.failed"
    else:
        assert answer.status == 502


def completion(message, finish="stop", **fields):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE, **fields}


def tool_call(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("headers", [[("content-type", "application/json")], [("content-type", "text/event-stream")]])
def test_a_whole_answer(caller, server, stream, headers):
    """Also to a request for a stream."""
    message = {
        "content": "<think>Hm.</think>Let me see.",
        "tool_calls": [tool_call("call_a", "weather", WEATHER), tool_call("call_b", "news", json.loads(NEWS))],
    }
    body = json.dumps(completion(message, "tool_calls", service_tier="flex")).encode()
    server.script(Reply([body], headers=headers))
    answer = caller.create(stream=stream, tools=[TOOL])
    response = answer.events()[-1]["response"] if stream else answer.json()
    assert response["status"] == "completed" and response["service_tier"] == "flex"
    assert texts(response, "reasoning", "content") == "Hm." and texts(response, "message", "content") == "Let me see."
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
        ("weather", json.loads(WEATHER)),
        ("news", json.loads(NEWS)),
    ]
    assert response["usage"]["total_tokens"] == 12


@pytest.mark.parametrize(("finish", "status"), [("length", "incomplete"), ("content_filter", "incomplete")])
def test_a_whole_answer_that_is_incomplete(caller, server, finish, status):
    server.script(as_json(completion({"content": "Hal"}, finish)))
    assert caller.create().json()["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "It broke.", "type": "server_error", "code": None}},
        {"error": "It broke."},
        {"object": "error", "message": "It broke.", "code": 500},
        completion({"content": "x"}, "error", error={"message": "It broke."}),
        {"detail": "It broke."},
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_in_a_whole_answer(caller, server, body, stream):
    server.script(as_json(body))
    answer = caller.create(stream=stream)
    told = answer.body.decode()
    assert "It broke." in told and "response.completed" not in told
    assert answer.status >= 400 or parse(answer.received)[-1]["type"] == "response.failed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "No.", "type": "BadRequestError", "param": None, "code": 400}}),
        (400, {"error": "No."}),
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "No."}]}),
        (404, {"object": "error", "message": "No."}),
        (500, {"error": {"message": "No."}}),
    ],
)
@pytest.mark.parametrize("speaks_chat", [True, False])
def test_an_error(caller, server, status, body, stream, speaks_chat):
    server.script(*[as_json(body, status)] * 2)
    answer = (caller.chat if speaks_chat else caller.create)(stream=stream)
    assert answer.status == status and "No." in answer.body.decode()
    assert isinstance(answer.json()["error"], dict)


def test_the_key_is_not_told(caller, server):
    server.script(as_json({"error": {"message": "Bad key sk-the-operators", "code": "x"}}, 400))
    assert "sk-the-operators" not in caller.create().body.decode()
    assert server.requests[-1].header("authorization") == "Bearer sk-the-operators"


def test_a_hang_up_reaches_the_server(caller, server):
    server.script(Reply([chunk("Hello."), Step.HOLD]))
    answer = caller.stream()
    answer.read_until(b"Hello.")
    answer.hang_up()
    assert server.requests[0].peer_gone.wait(60)


ENTRY = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
CITATION = {"url": "https://x", "title": "T", "start_index": 0, "end_index": 2}


@pytest.mark.parametrize("stream", [True, False])
def test_log_probabilities_and_citations(caller, server, stream):
    annotations = [{"type": "url_citation", "url_citation": CITATION}, {"type": "odd"}]
    logprobs = {"content": [ENTRY], "refusal": None}
    if stream:
        choice = {"index": 0, "delta": {"content": "Hi"}, "logprobs": logprobs, "finish_reason": None}
        first = b"data: %s\n\n" % json.dumps({"choices": [choice]}).encode()
        server.script(Reply([first, chunk("!"), chunk({"annotations": annotations}), *STOP]))
    else:
        body = completion({"content": "Hi!", "annotations": annotations})
        body["choices"][0]["logprobs"] = logprobs
        server.script(as_json(body))
    answer = caller.create(stream=stream, include=["message.output_text.logprobs"])
    if stream:
        told = [event["logprobs"] for event in answer.events() if event["type"] == "response.output_text.delta"]
        assert told == [[ENTRY], []]
        response = parse(answer.received)[-1]["response"]
    else:
        response = answer.json()
        assert response["output"][0]["content"][0]["logprobs"] == [ENTRY]
    (part,) = response["output"][0]["content"]
    assert part["text"] == "Hi!" and part["annotations"] == [{"type": "url_citation", **CITATION}]
