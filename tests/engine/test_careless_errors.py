"""Errors of upstreams in many forms reach the client with their reason."""

import json

import pytest

from floway_core.testing import Reply, event, message_stream
from floway_core.testing.events import DONE, parse, response

from ..support.odd_events import CREATED, JSON

IN_STREAM = {
    "no type": [b'data: {"error":{"message":"Slow down.","code":"rate_limit_exceeded"}}\n\n'],
    "response.error": [event("response.error", error={"message": "Slow down.", "code": "rate_limit_exceeded"})],
    "a text for the error": [CREATED, event("response.failed", response=response("failed", error="Slow down."))],
    "a text in an error event": [event("error", error="Slow down.")],
    "detail": [b'data: {"detail":"Slow down."}\n\n'],
    "the usual": [event("error", error={"message": "Slow down.", "code": "rate_limit_exceeded"})],
    "flat": [event("error", message="Slow down.", code="rate_limit_exceeded")],
}


@pytest.mark.parametrize("case", IN_STREAM)
@pytest.mark.parametrize("end", [[], [DONE]])
def test_an_error_in_a_stream_keeps_its_reason_in_any_shape(ask, fake_upstream, case, end):
    fake_upstream.script(*[Reply([*IN_STREAM[case], *end])] * 2)
    answer = ask.create(store=False)
    assert answer.json()["error"]["message"] == "Slow down."
    told = ask.stream(store=False).events()
    errors = [one for one in told if one["type"] == "error"]
    assert [one.get("message") or one["error"]["message"] for one in errors] == ["Slow down."] * len(errors)
    assert told[-1]["response"]["error"]["message"] == "Slow down."


SENTENCES = {
    "Rate limit exceeded, slow down.": 429,
    "You exceeded your current quota, please check your plan.": 429,
    "You have reached your weekly usage limit.": 429,
    "Incorrect API key provided: sk-secret.": 503,
    "Insufficient credits.": 402,
    "This model's maximum context length is 4096 tokens.": 400,
    "The model crashed.": 502,
}


@pytest.mark.parametrize("message", SENTENCES)
@pytest.mark.parametrize("shape", [{"error": "%s"}, {"detail": "%s"}, {"error": {"message": "%s", "code": None}}])
def test_a_sentence_alone_decides_the_status(ask, fake_upstream, message, shape):
    content = json.dumps(shape).replace("%s", message).encode()
    fake_upstream.script(Reply([content], headers=JSON, framing="length"))
    answer = ask.create()
    assert answer.status == SENTENCES[message] and b"sk-secret" not in answer.body
    kinds = {429: "rate_limit_error", 400: "invalid_request_error", 402: "invalid_request_error"}
    assert answer.json()["error"]["type"] == kinds.get(answer.status, "server_error")


REFUSALS = {
    "an event": b'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error","message":"No."}}\n\n',
    "a list": b'[{"error":{"code":400,"message":"No.","status":"INVALID_ARGUMENT"}}]',
    "problem details": b'{"type":"about:blank","title":"Bad Request","status":400,"detail":"No."}',
    "errors": b'{"success":false,"errors":[{"code":7003,"message":"No."}]}',
    "a nested detail": b'{"detail":{"error":{"message":"No.","code":"x"}}}',
    "JSON in a text": b'{"error":"{\\"error\\":{\\"message\\":\\"No.\\"}}"}',
    "a word and a sentence": b'{"error":"invalid_grant","error_description":"No."}',
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_keeps_its_reason_in_any_shape(ask, fake_upstream, case):
    fake_upstream.script(Reply([REFUSALS[case]], 400, JSON, "length"))
    answer = ask.create()
    error = answer.json()["error"]
    assert (answer.status, error["message"]) == (400, "No.")
    assert {"type", "param", "code"} <= set(error) and isinstance(error["type"], str)


def test_the_fields_that_only_the_upstream_knows_stay(ask, fake_upstream):
    content = {"error": {"message": "Spent.", "plan": "pro", "code": "insufficient_quota"}, "trace": 7}
    fake_upstream.script(Reply([json.dumps(content).encode()], 429, JSON, "length"))
    body = ask.create().json()
    usual = {"message": "Spent.", "type": "rate_limit_error", "param": None, "code": "insufficient_quota"}
    assert body == {"error": {**usual, "plan": "pro"}, "trace": 7}


@pytest.mark.parametrize(
    ("error", "headers", "seconds"),
    [
        ({"resets_in_seconds": 41.2}, [], "42"),
        ({"resets_at": 1}, [], None),
        ({"retry_after": "7"}, [], "7"),
        ({"details": [{"retryDelay": "34s"}]}, [], "34"),
        ({"message": "Please try again in 1.5s."}, [], "2"),
        ({"message": "Please try again in 3 minutes."}, [], "180"),
        ({"message": "Limit 10, Used 9. Please try again in 6m0s. Visit us."}, [], "360"),
        ({"message": "Please try again in 1h2m3.5s."}, [], "3724"),
        ({"message": "Please try again in 120ms."}, [], "1"),
        ({"message": "Try again in 2 days, 1 hour."}, [], "176400"),
        ({"message": "Please retry in 34.07s."}, [], "35"),
        ({"message": "Please try again in 3 steps."}, [], None),
        ({"metadata": {"headers": {"Retry-After": "x", "X-RateLimit-Reset": "30"}}}, [], "30"),
        ({}, [("x-ratelimit-reset-requests", "1m30s"), ("x-ratelimit-remaining-requests", "0")], "90"),
        ({}, [("x-ratelimit-reset-tokens", "250ms")], "1"),
        ({}, [("retry-after-ms", "2500")], "3"),
        ({"resets_in_seconds": 41}, [("retry-after", "5")], "5"),
        ({}, [], None),
    ],
)
def test_a_limit_says_when_to_try_again(ask, fake_upstream, error, headers, seconds):
    content = json.dumps({"error": {"message": "Slow.", "code": "rate_limit_exceeded", **error}}).encode()
    fake_upstream.script(Reply([content], 429, [*JSON, *headers], "length"))
    answer = ask.create()
    assert (answer.status, answer.headers["retry-after"]) == (429, seconds)


@pytest.fixture(scope="module")
def one_worker(start_wired):
    """A gateway each of whose answers comes from the same process."""
    return start_wired(workers="1")


@pytest.mark.parametrize(("status", "told"), [(401, 503), (403, 502)])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_the_gateways_own_account_is_not_the_clients_fault(
    call, one_worker, fake_upstream, status, told, stream, inside
):
    ask, gateway = call(one_worker), one_worker
    code = {401: "invalid_api_key", 403: "permission_denied"}[status]
    content = json.dumps({"error": {"message": "Incorrect API key provided: sk-secret-key.", "code": code}}).encode()
    dispatches = 2 if status == 401 and not inside else 1  # the plugin tries to mend a 401 once
    fake_upstream.script(*[Reply([content], 200 if inside else status, JSON, "length")] * dispatches)
    answer = ask.create(stream=stream)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"]) == (told, "upstream_account_refused", "server_error")
    assert "'first'" in error["message"] and "sk-secret" not in answer.body.decode()
    assert f"Upstream first refused its account: {status}" in gateway.log and "sk-secret" not in gateway.log
    ready = ask.get("/readyz").json()
    assert any("refused its account" in str(one) for one in json.dumps(ready).split(","))
    fake_upstream.script(Reply(message_stream()))
    ask.create().json()
    assert "refused its account" not in json.dumps(ask.get("/readyz").json())


def test_nor_is_it_in_the_middle_of_a_stream(call, one_worker, fake_upstream):
    ask = call(one_worker)
    bad = {"message": "Incorrect API key provided.", "code": "invalid_api_key"}
    fake_upstream.script(
        Reply([CREATED, event("error", error=bad), event("response.failed", response=response(error=bad))])
    )
    answer = ask.stream(store=False)
    assert b"invalid_api_key" not in answer.body and b"Incorrect" not in answer.body
    assert parse(answer.body)[-1]["response"]["error"]["code"] == "upstream_account_refused"
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    assert "refused its account" in json.dumps(ask.get("/readyz").json())
    assert "Upstream first refused its account: 401 invalid_api_key" in one_worker.log
    ask.create(store=False).json()
    assert "refused its account" not in json.dumps(ask.get("/readyz").json())
