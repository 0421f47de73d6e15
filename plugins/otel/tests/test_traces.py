"""Traces of requests, as a collector receives them from a running gateway."""

import json

import pytest

from floway_core.testing import Reply, Step, items_stream, message_stream
from floway_core.testing.events import function_call_item, response

TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CLIENT_SPAN}-01"
JSON = [("content-type", "application/json")]
BUSY = Reply([b'{"error":{"message":"No.","code":"busy"}}'], 503, JSON)

TOKENS = {
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.cache_read.input_tokens": 3,
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.usage.reasoning.output_tokens": 0,
}


def as_json(content):
    return Reply([json.dumps(content).encode()], headers=JSON)


def shown(spans):
    """Spans as a whole: times as their order, and ids by whom they belong to. The request is the last one."""
    names = {span["id"]: f"attempt {number}" for number, span in enumerate(spans, 1)}
    names[spans[-1]["id"]] = "request"
    return [
        {
            "id": names[span["id"]],
            "parent": names.get(span["parent"], span["parent"]),
            **{name: span[name] for name in ("trace", "name", "kind", "failed")},
            "events": [name for name, _ in span["events"]],
            "attributes": span["attributes"],
        }
        for span in spans
    ]


def check_times(spans):
    """Each span is within its request, and its events within it, in their order."""
    request = spans[-1]
    for span in spans:
        assert request["start"] <= span["start"] <= span["end"] <= request["end"] + 1000
        times = [span["start"], *(time for _, time in span["events"]), span["end"]]
        assert times == sorted(times)


def attempt(upstream, server, **attributes):
    """The attributes of an attempt at one of the upstreams of ``gateway``."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "model-1",
        "server.address": host,
        "server.port": int(port),
        "floway.upstream.name": upstream,
        **attributes,
    }


def request(answer, **attributes):
    """The attributes of a request."""
    return {
        "http.request.method": "POST",
        "http.route": "/v1/responses",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "model-1",
        "floway.request.id": answer.headers["x-request-id"],
        "floway.api_key.name": "test",
        "floway.dialect": "responses",
        "floway.outcome": "completed",
        **attributes,
    }


def test_a_tool_conversation_with_two_attempts(upstream, collector, client):
    """The first upstream is busy, the second one calls a tool; the next turn gives it what the tool has said."""
    call = items_stream([function_call_item("look", '{"at": "it"}')], model="model-1-2026")
    upstream.script(BUSY, Reply(call), Reply(message_stream(model="model-1-2026")))
    client.headers["traceparent"] = TRACEPARENT
    first = client.stream("Look at it.")
    response_id = first.events()[-1]["response"]["id"]
    answered = {"type": "function_call_output", "call_id": "call_1", "output": "It is green."}
    second = client.create([answered], previous_response_id=response_id)
    turns = [collector.spans_of(answer) for answer in (first, second)]
    for spans in turns:
        check_times(spans)
    chunk = turns[0][1]["attributes"].pop("gen_ai.response.time_to_first_chunk")
    assert 0 < chunk * 1e9 <= turns[0][1]["end"] - turns[0][1]["start"]
    streamed = {"gen_ai.request.stream": True}
    succeeded = {
        "http.response.status_code": 200,
        "gen_ai.response.model": "model-1-2026",
        "floway.outcome": "completed",
        **TOKENS,
    }
    assert shown(turns[0]) == [
        {
            "id": "attempt 1",
            "parent": "request",
            "trace": TRACE,
            "name": "chat model-1",
            "kind": "CLIENT",
            "failed": True,
            "events": ["floway.dispatch"],
            "attributes": attempt(
                "first",
                upstream,
                **streamed,
                **{"http.response.status_code": 503, "error.type": "busy", "floway.outcome": "failed"},
            ),
        },
        {
            "id": "attempt 2",
            "parent": "request",
            "trace": TRACE,
            "name": "chat model-1",
            "kind": "CLIENT",
            "failed": False,
            "events": ["floway.dispatch", "floway.first_byte", "floway.commit"],
            "attributes": attempt(
                "second",
                upstream,
                **streamed,
                **succeeded,
                **{"gen_ai.response.id": response_id, "gen_ai.response.finish_reasons": ["tool_call"]},
            ),
        },
        {
            "id": "request",
            "parent": CLIENT_SPAN,
            "trace": TRACE,
            "name": "POST /v1/responses",
            "kind": "SERVER",
            "failed": False,
            "events": [],
            "attributes": request(first, **streamed, **{"floway.attempts": 2}),
        },
    ]
    (upstream_name,) = {span["attributes"]["floway.upstream.name"] for span in turns[1][:-1]}
    assert shown(turns[1]) == [
        {
            "id": "attempt 1",
            "parent": "request",
            "trace": TRACE,
            "name": "chat model-1",
            "kind": "CLIENT",
            "failed": False,
            "events": ["floway.dispatch", "floway.commit"],
            "attributes": attempt(
                upstream_name,
                upstream,
                **succeeded,
                **{"gen_ai.response.id": second.json()["id"], "gen_ai.response.finish_reasons": ["stop"]},
            ),
        },
        {
            "id": "request",
            "parent": CLIENT_SPAN,
            "trace": TRACE,
            "name": "POST /v1/responses",
            "kind": "SERVER",
            "failed": False,
            "events": [],
            "attributes": request(second, **{"floway.attempts": 1}),
        },
    ]


def test_without_the_client_a_trace_begins_here(upstream, collector, client):
    upstream.script(*[Reply(message_stream())] * 2)
    one, two = (collector.spans_of(client.create()) for _ in range(2))
    assert one[-1]["parent"] == two[-1]["parent"] == ""
    assert len({span["trace"] for span in (*one, *two)}) == 2
    assert {span["trace"] for span in one} == {one[-1]["trace"]}
    assert len({span["id"] for span in (*one, *two)}) == 4
    assert one[0]["resource"]["service.name"] == "floway"


def test_a_client_that_is_not_sampled_is_not_exported(upstream, collector, client):
    upstream.script(*[Reply(message_stream())] * 2)
    hidden = client.post({"model": "model-1", "input": "Hi"}, traceparent=f"{TRACEPARENT[:-1]}0")
    assert hidden.status == 200
    collector.spans_of(client.create())
    assert hidden.headers["x-request-id"] not in {
        span["attributes"].get("floway.request.id") for span in collector.spans()
    }


def test_only_upstreams_that_are_named_continue_the_trace(upstream, collector, client):
    upstream.script(BUSY, Reply(message_stream()))
    client.headers |= {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": "user=me"}
    first, second, _ = collector.spans_of(client.create())
    sent = {span["attributes"]["floway.upstream.name"]: span for span in (first, second)}
    for received in upstream.requests:
        name = received.path.split("/")[1]
        headers = [received.header(header) for header in ("traceparent", "tracestate", "baggage")]
        expected = [f"00-{TRACE}-{sent[name]['id']}-01", "vendor=1", "user=me"]
        assert headers == (expected if name == "second" else [None] * 3)
    assert {span["state"] for span in (first, second)} == {"vendor=1"}


def test_an_upstream_continues_a_trace_that_begins_here(upstream, collector, client):
    upstream.script(as_json(CHAT))
    answer = client.create(model="model-2")
    attempt, request = collector.spans_of(answer)
    (received,) = upstream.requests
    assert received.header("traceparent") == f"00-{request['trace']}-{attempt['id']}-01"


CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "model-2",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
}
MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "dialect"),
    [("/v1/responses", "responses"), ("/v1/chat/completions", "chat"), ("/v1/messages", "messages")],
)
def test_all_dialects(upstream, collector, client, path, dialect, stream):
    upstream.script(Reply(message_stream()))
    body = {"input": "Hi"} if dialect == "responses" else {"messages": MESSAGES, "max_tokens": 100}
    answer = client.post({"model": "model-1", "stream": stream, **body}, path, anthropic_version="2023-06-01")
    assert answer.status == 200 and answer.body
    attempt, request = collector.spans_of(answer)
    check_times([attempt, request])
    assert request["attributes"]["floway.dialect"] == dialect and request["name"] == f"POST {path}"
    assert attempt["attributes"]["gen_ai.response.finish_reasons"] == ["stop"]
    assert TOKENS.items() <= attempt["attributes"].items()
    assert ("gen_ai.response.time_to_first_chunk" in attempt["attributes"]) is stream
    assert ("floway.first_byte" in dict(attempt["events"])) is stream


def test_an_answer_that_is_passed_through(upstream, collector, client):
    upstream.script(as_json(CHAT))
    answer = client.post({"model": "model-2", "messages": MESSAGES}, "/v1/chat/completions")
    assert answer.json() == CHAT
    attempt, request = collector.spans_of(answer)
    found = attempt["attributes"]
    assert (found["gen_ai.provider.name"], found["gen_ai.usage.input_tokens"]) == ("chat", 7)
    assert (found["floway.outcome"], request["attributes"]["floway.outcome"]) == ("completed", "completed")
    assert "gen_ai.response.finish_reasons" not in found


def test_a_conversation_that_the_client_names(upstream, collector, client):
    upstream.script(Reply(message_stream()))
    body = {"model": "model-1", "messages": MESSAGES, "max_tokens": 100}
    session = "5a3e1c5e-8a52-4dc1-9e3b-1f2a3b4c5d6e"
    answer = client.post(body, "/v1/messages", anthropic_version="2023-06-01", x_claude_code_session_id=session)
    spans = collector.spans_of(answer)
    assert [span["attributes"].get("gen_ai.conversation.id") for span in spans] == [session, session]


def test_refusals(collector, client):
    nobody = client.post({}, authorization="Bearer nobody", traceparent=TRACEPARENT)
    (span,) = collector.spans_of(nobody)
    assert shown([span]) == [
        {
            "id": "request",
            "parent": CLIENT_SPAN,
            "trace": TRACE,
            "name": "POST /v1/responses",
            "kind": "SERVER",
            "failed": False,
            "events": [],
            "attributes": {
                "http.request.method": "POST",
                "http.route": "/v1/responses",
                "http.response.status_code": 401,
                "error.type": "invalid_api_key",
                "floway.request.id": nobody.headers["x-request-id"],
                "floway.dialect": "responses",
            },
        }
    ]
    (span,) = collector.spans_of(client.create(model="nothing"))
    assert span["attributes"]["error.type"] == "model_not_found" and not span["failed"]
    (span,) = collector.spans_of(client.get("/nowhere"))
    assert span["name"] == "GET" and span["attributes"]["http.response.status_code"] == 404


def test_checks_of_health_are_not_traced(upstream, collector, client):
    assert client.get("/readyz").status == client.get("/healthz").status == 200
    collector.spans_of(client.get("/v1/models"))
    assert [span["name"] for span in collector.spans()] == ["GET /v1/models"]


def test_failures(upstream, collector, client):
    upstream.script(BUSY, BUSY)
    *attempts, request = collector.spans_of(client.create())
    assert [span["attributes"]["error.type"] for span in (*attempts, request)] == ["busy"] * 3
    assert all(span["failed"] for span in (*attempts, request))
    upstream.script(Reply([*message_stream()[:6], Step.CUT]))
    answer = client.stream()
    assert answer.body
    attempt, request = collector.spans_of(answer)
    assert attempt["failed"] and request["failed"]
    assert attempt["attributes"]["error.type"] == "upstream_disconnected"


def test_a_client_that_hangs_up(upstream, collector, client):
    *most, last = message_stream()
    upstream.script(Reply([*most, Step.HOLD, last]))
    answer = client.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    attempt, request = collector.spans_of(answer)
    assert attempt["attributes"]["error.type"] == request["attributes"]["error.type"] == "cut"
    assert attempt["failed"] and not request["failed"]


def test_a_response_that_is_too_long(upstream, collector, client):
    ended = response("incomplete", incomplete_details={"reason": "max_output_tokens"})
    upstream.script(as_json(ended))
    attempt, _ = collector.spans_of(client.create())
    assert attempt["attributes"]["gen_ai.response.finish_reasons"] == ["length"] and not attempt["failed"]
