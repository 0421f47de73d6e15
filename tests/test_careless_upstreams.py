"""What upstreams do carelessly spoils neither an answer nor what is stored of it; each kind through the real server."""

import gzip
import json

import pytest

from floway_core.testing import Reply, Step, event, message_item, message_stream
from floway_core.testing.events import DONE, USAGE, function_call_item, parse, response

JSON = [("content-type", "application/json")]
CREATED = event("response.created", sequence_number=0, response=response())
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Thinking."}]}
MESSAGE = message_item("Hello.")
SHELL = {**MESSAGE, "status": "in_progress", "content": []}
CALL_A, CALL_B = (function_call_item("f", f'{{"{n}":1}}', id=f"fc_{n}", call_id=f"call_{n}") for n in "ab")


def done(index, item):
    return event("response.output_item.done", output_index=index, item=item)


def added(index, item):
    return event("response.output_item.added", output_index=index, item=item)


def about(name, index=0, item_id="msg_1", **content):
    content = {"type": f"response.{name}", "item_id": item_id, "output_index": index, **content}
    return f"event: response.{name}\ndata: {json.dumps(content)}\n\n".encode()  # in ASCII: it may hold half a character


def completed(*output, kind="response.completed", **content):
    return event(kind, response=response("completed", output=list(output), usage=USAGE) | content)


# --------------------------------------------------------------------------------------------- items told in odd ways
OUTPUTS = {
    "one index for all": ([done(0, CALL_A), done(0, CALL_B)], [], [CALL_A, CALL_B]),
    "one index, and the end has all": (
        [done(0, REASONING), done(0, MESSAGE)],
        [REASONING, MESSAGE],
        [REASONING, MESSAGE],
    ),
    "a hole": ([done(4, MESSAGE)], [MESSAGE], [MESSAGE]),
    "no index": ([event("response.output_item.done", item=MESSAGE)], [], [MESSAGE]),
    "a text for an index": ([done("0", MESSAGE), done(True, CALL_A)], [], [MESSAGE, CALL_A]),
    "only the end has one": ([done(0, MESSAGE)], [REASONING, MESSAGE], [REASONING, MESSAGE]),
    "only the end has all": ([], [REASONING, MESSAGE], [REASONING, MESSAGE]),
    "the end has less": ([done(0, REASONING), done(1, MESSAGE)], [MESSAGE], [REASONING, MESSAGE]),
    "a shell, and the end has the text": ([done(0, SHELL)], [MESSAGE], [MESSAGE]),
    "the text, and the end has a shell": ([done(0, MESSAGE)], [{**MESSAGE, "content": []}], [MESSAGE]),
    "other ids at the end": (
        [done(0, MESSAGE), done(1, CALL_A)],
        [MESSAGE | {"id": "m"}, CALL_A | {"id": "c"}],
        [MESSAGE, CALL_A],
    ),
    "other ids in item.done": ([added(0, SHELL | {"id": "x"}), done(0, MESSAGE)], [], [MESSAGE | {"id": "x"}]),
    "an item twice": ([done(0, CALL_A), done(1, CALL_A)], [CALL_A, CALL_A], [CALL_A]),
    "a call with two ids": ([done(0, CALL_A), done(1, CALL_A | {"id": "fc_z"})], [], [CALL_A]),
    "never closed": ([added(0, SHELL), about("output_text.done", content_index=0, text="Hello.")], [], [MESSAGE]),
    "deltas alone": (
        [added(0, SHELL), *(about("output_text.delta", content_index=0, delta=part) for part in ("Hel", "lo."))],
        [],
        [MESSAGE],
    ),
    "deltas of nothing announced": ([about("output_text.delta", content_index=0, delta="Hello.")], [], [MESSAGE]),
    "half characters": (
        [added(0, SHELL), *(about("output_text.delta", content_index=0, delta=part) for part in ("\ud83d", "\ude00"))],
        [],
        [message_item("😀")],
    ),
    "deltas, and a shell": (
        [added(0, SHELL), about("output_text.delta", content_index=0, delta="Hello."), done(0, SHELL)],
        [SHELL],
        [MESSAGE],
    ),
    "the text in a part": (
        [added(0, SHELL), about("content_part.done", content_index=0, part=MESSAGE["content"][0])],
        [],
        [MESSAGE],
    ),
    "a call in deltas": (
        [
            added(0, CALL_A | {"arguments": "", "status": "in_progress"}),
            *(about("function_call_arguments.delta", item_id="fc_a", delta=part) for part in ('{"a"', ":1}")),
        ],
        [],
        [CALL_A],
    ),
    "two calls at once": (
        [
            added(0, CALL_A | {"arguments": ""}),
            added(1, CALL_B | {"arguments": ""}),
            about("function_call_arguments.delta", 0, "fc_a", delta='{"a"'),
            about("function_call_arguments.delta", 1, "fc_b", delta='{"b"'),
            about("function_call_arguments.delta", 0, "fc_a", delta=":1}"),
            about("function_call_arguments.delta", 1, "fc_b", delta=":1}"),
        ],
        [],
        [CALL_A, CALL_B],
    ),
    "reasoning in deltas": (
        [
            added(0, REASONING | {"summary": []}),
            about("reasoning_summary_text.delta", item_id="rs_1", summary_index=0, delta="Thinking."),
        ],
        [],
        [REASONING | {"status": "completed"}],
    ),
}


@pytest.mark.parametrize("case", OUTPUTS)
@pytest.mark.parametrize("stream", [True, False])
def test_each_item_stands_once_with_all_its_content(ask, fake_upstream, case, stream):
    events, final, expected = OUTPUTS[case]
    fake_upstream.script(Reply([CREATED, *events, completed(*final)]), Reply(message_stream()))
    answer = ask.create(stream=stream)
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert told["output"] == expected
    assert ask.get(f"/v1/responses/{told['id']}").json()["output"] == expected
    ask.create("Next", previous_response_id=told["id"], store=False).json()
    sent = json.loads(fake_upstream.requests[-1].body)["input"]
    assert sent[1:-1] == expected


@pytest.mark.parametrize("case", OUTPUTS)
def test_who_reads_only_closed_items_reads_all(ask, fake_upstream, case):
    """As the Codex CLI and some frameworks do."""
    events, final, expected = OUTPUTS[case]
    fake_upstream.script(Reply([CREATED, *events, completed(*final)]))
    told = ask.stream(store=False).events()
    last = {
        one["item"].get("call_id") or one["item"]["id"]: one["item"]
        for one in told
        if one["type"].endswith("item.done")
    }
    ends = {item.get("call_id") or item["id"] for item in expected}
    assert set(last) == ends
    indexes = [one["output_index"] for one in told if one["type"].endswith("item.added")]
    assert all(isinstance(index, int) for index in indexes) and len(indexes) == len(set(indexes))


def test_ids_that_repeat_within_an_answer_become_distinct_in_all_events(ask, fake_upstream):
    texts = ["One.", "Two."]
    events = []
    for index, text in enumerate(texts):
        events += [added(index, SHELL), about("output_text.delta", index, content_index=0, delta=text)]
        events += [done(index, message_item(text))]
    fake_upstream.script(Reply([CREATED, *events, completed(*map(message_item, texts))]))
    told = ask.stream(store=False).events()
    output = told[-1]["response"]["output"]
    assert [item["content"][0]["text"] for item in output] == texts
    first, second = (item["id"] for item in output)
    assert (first, second != first) == ("msg_1", True)
    deltas = [(one["item_id"], one["delta"]) for one in told if one["type"].endswith(".delta")]
    assert deltas == [(first, "One."), (second, "Two.")]
    assert [one["item"]["id"] for one in told if one["type"].endswith("item.done")] == [first, second]


# ------------------------------------------------------------------------------------------- what is no answer at all
NO_ANSWERS = {
    "an error": ({"error": {"message": "Busy.", "code": "rate_limit_exceeded"}}, 429, "Busy."),
    "an error without a code": ({"error": {"message": "Busy."}}, 502, "Busy."),
    "a text for an error": ({"error": "Busy."}, 502, "Busy."),
    "an error in an error": ({"error": {"error": {"message": "Busy.", "type": "overloaded_error"}}}, 503, "Busy."),
    "detail": ({"detail": "Busy."}, 502, "Busy."),
    "details": ({"detail": [{"loc": ["body", "model"], "msg": "Busy."}]}, 502, "body.model: Busy."),
    "code and msg": ({"code": 500, "msg": "Busy."}, 500, "Busy."),
    "a list": ([{"error": {"code": 503, "message": "Busy.", "status": "UNAVAILABLE"}}], 503, "Busy."),
    "object error": ({"object": "error", "message": "Busy.", "type": "BadRequestError", "code": 400}, 400, "Busy."),
    "failed": (response("failed", error={"code": "server_is_overloaded", "message": "Busy."}), 503, "Busy."),
    "completed with an error": (response("completed", error={"message": "Busy."}), 502, "Busy."),
    "in progress": (response("in_progress"), 502, "in_progress"),
    "queued": (response("queued"), 502, "queued"),
    "cancelled": (response("cancelled"), 502, "cancelled"),
    "a chat completion": ({"object": "chat.completion", "choices": []}, 502, "not send a response object"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_json_that_is_no_answer_is_an_error_with_its_reason(ask, fake_upstream, case, stream, kind):
    content, status, reason = NO_ANSWERS[case]
    fake_upstream.script(Reply([json.dumps(content).encode()], headers=[("content-type", kind)], framing="length"))
    answer = ask.create(stream=stream)
    if stream and kind == "text/event-stream":  # the head left when the upstream's did
        told = parse(answer.body)
        assert [one["type"] for one in told] == ["error", "response.failed"]
        assert reason in told[0]["message"] and reason in told[1]["response"]["error"]["message"]
    else:
        error = answer.json()["error"]
        assert answer.status == status and reason in error["message"]
        assert {"type", "param", "code", "message"} <= set(error)


@pytest.mark.parametrize("case", NO_ANSWERS)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_answer_gives_way_to_another_provider(ask, fake_upstream, case, stream):
    content, status, _ = NO_ANSWERS[case]
    fake_upstream.script(Reply([json.dumps(content).encode()], headers=JSON, framing="length"))
    answer = ask.create(model="shared", stream=stream, store=False)
    if status == 400:
        assert answer.status == 400
        return
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert (told["model"], told["status"]) == ("canned", "completed")


OVERLOAD = {"code": "server_is_overloaded", "message": "Too many."}
BEGINNINGS = {
    "an error first": [event("error", error=OVERLOAD)],
    "a failure first": [event("response.failed", response=response("failed", error=OVERLOAD))],
    "an error after created": [
        CREATED,
        event("response.in_progress", response=response()),
        event("error", error=OVERLOAD),
    ],
    "an error without a type": [b'data: {"error":{"message":"Too many.","code":"server_is_overloaded"}}\n\n'],
    "nothing": [],
    "done alone": [CREATED, DONE],
    "a page": [b"<html>Wait</html>"],
    "an error, then silence": [event("error", error=OVERLOAD), Step.HOLD],
}


@pytest.mark.parametrize("case", BEGINNINGS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_that_fails_before_its_content_gives_way(ask, fake_upstream, case, stream):
    fake_upstream.script(Reply(BEGINNINGS[case]))
    answer = ask.create(model="shared", stream=stream, store=False)
    told = answer.events() if stream else [{"response": answer.json()}]
    assert told[-1]["response"]["status"] == "completed"
    assert not [one for one in told if one.get("type") in ("error", "response.failed")]


def test_a_stream_whose_content_was_passed_on_gives_way_to_nobody(ask, fake_upstream):
    fake_upstream.script(Reply([CREATED, added(0, SHELL), Step.HOLD, event("error", error=OVERLOAD)]))
    answer = ask.stream(model="shared", store=False)
    answer.read_until(b"output_item.added")
    fake_upstream.release.set()
    assert answer.events()[-1]["type"] == "response.failed"


def test_for_a_client_that_does_not_stream_content_is_no_hindrance(ask, fake_upstream):
    fake_upstream.script(Reply([CREATED, done(0, MESSAGE), event("error", error=OVERLOAD)]))
    assert ask.create(model="shared", store=False).json()["model"] == "canned"


def test_what_is_held_back_is_all_there(ask, fake_upstream):
    head, *rest = message_stream()
    fake_upstream.script(Reply([head, Step.HOLD, *rest]))
    answer = ask.stream(model="shared", store=False)
    fake_upstream.release.set()
    assert [one["type"] for one in answer.events()] == [one["type"] for one in parse(b"".join(message_stream()))]


def test_a_stream_is_held_back_for_so_long_and_no_longer(call, start_wired, fake_upstream):
    head, *rest = message_stream()
    fake_upstream.script(Reply([head, Step.HOLD, *rest]))
    answer = call(start_wired(failover_window="0.05")).stream(model="shared", store=False)
    assert b"response.created" in answer.read_until(b"\n\n")
    fake_upstream.release.set()
    assert answer.body.endswith(DONE)


def test_where_nobody_else_could_serve_nothing_is_held_back(ask, fake_upstream):
    head, *rest = message_stream()
    fake_upstream.script(Reply([head, Step.HOLD, *rest]))
    answer = ask.stream(store=False)
    assert b"response.created" in answer.read_until(b"\n\n")
    fake_upstream.release.set()
    assert answer.body.endswith(DONE)


# ------------------------------------------------------------------------------------------------------- odd endings
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_the_terminal_event_needs_no_empty_line(ask, fake_upstream, stream, framing):
    fake_upstream.script(Reply([b"".join(message_stream()).rstrip(b"\n")], framing=framing))
    answer = ask.create(stream=stream)
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert (told["status"], told["output"]) == ("completed", [message_item("Hello there.")])


@pytest.mark.parametrize("before", [[], [added(0, SHELL), about("output_text.delta", content_index=0, delta="Half")]])
@pytest.mark.parametrize("after", [[], [Step.HOLD]])
def test_done_hides_no_failure(ask, fake_upstream, before, after):
    fake_upstream.script(Reply([CREATED, *before, DONE, *after]))
    answer = ask.stream(store=False)
    assert parse(answer.body)[-1]["type"] == "response.failed" and DONE not in answer.body


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("kind", "status", "end"),
    [
        ("response.done", "completed", "response.completed"),
        ("response.done", "incomplete", "response.incomplete"),
        ("response.done", "failed", "response.failed"),
        ("response.completed", "incomplete", "response.incomplete"),
        ("response.completed", "failed", "response.failed"),
        ("response.completed", "cancelled", "response.failed"),
        ("response.completed", None, "response.completed"),
    ],
)
def test_how_an_answer_ends_is_decided_by_event_and_status(ask, fake_upstream, stream, kind, status, end):
    error = {"error": OVERLOAD} if end == "response.failed" else {}
    fake_upstream.script(Reply([CREATED, done(0, MESSAGE), completed(MESSAGE, kind=kind, status=status, **error)]))
    answer = ask.create(stream=stream, store=False)
    if stream:
        last = answer.events()[-1]
        assert (last["type"], last["response"]["status"]) == (end, end.removeprefix("response."))
    elif end == "response.failed":
        assert (answer.status, answer.json()["error"]["message"]) == (503, "Too many.")
    else:
        assert answer.json()["status"] == end.removeprefix("response.")


@pytest.mark.parametrize("stream", [True, False])
def test_a_byte_order_mark_does_not_matter(ask, fake_upstream, stream):
    mark = b"\xef\xbb\xbf"
    whole = json.dumps(response("completed", output=[MESSAGE])).encode()
    fake_upstream.script(
        Reply([mark[:2], mark[2:] + b"".join(message_stream())]), Reply([mark + whole], headers=JSON, framing="length")
    )
    for _ in range(2):
        answer = ask.create(stream=stream, store=False)
        told = answer.events() if stream else [{"type": "response.created"}, {"response": answer.json()}]
        assert told[0]["type"] == "response.created" and told[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize("cut", [True, False])
def test_gzip_may_come_in_several_members(ask, fake_upstream, cut):
    members = [gzip.compress(chunk) for chunk in message_stream()]
    chunks = (
        [b"".join(members)[at : at + 50] for at in range(0, sum(map(len, members)), 50)] if cut else [b"".join(members)]
    )
    headers = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
    fake_upstream.script(Reply(chunks, headers=headers))
    assert ask.stream(store=False).events()[-1]["response"]["output"] == [message_item("Hello there.")]


@pytest.mark.parametrize("stream", [True, False])
def test_silence_after_an_error_is_not_waited_for(ask, fake_upstream, stream):
    """The gateway's idle timeout is five minutes; the client of this test waits twenty seconds."""
    fake_upstream.script(Reply([CREATED, event("error", error=OVERLOAD), Step.HOLD]))
    answer = ask.create(stream=stream)
    told = parse(answer.body)[-1]["response"]["error"] if stream else answer.json()["error"]
    assert (told["code"], told["message"]) == ("server_is_overloaded", "Too many.")


# ------------------------------------------------------------------------------------------------------------ errors
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


def test_nor_is_it_in_the_middle_of_a_stream(ask, fake_upstream):
    bad = {"message": "Incorrect API key provided.", "code": "invalid_api_key"}
    fake_upstream.script(
        Reply([CREATED, event("error", error=bad), event("response.failed", response=response(error=bad))])
    )
    answer = ask.stream(store=False)
    assert b"invalid_api_key" not in answer.body and b"Incorrect" not in answer.body
    assert parse(answer.body)[-1]["response"]["error"]["code"] == "upstream_account_refused"


# ------------------------------------------------------------------------------------------------------------- usage
USAGES = {
    "details with holes": ({**USAGE, "output_tokens_details": {}}, (7, 5, 12, 3, 0)),
    "no details": ({"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}, (7, 5, 12, 0, 0)),
    "no total": ({"input_tokens": 7, "output_tokens": 5}, (7, 5, 12, 0, 0)),
    "other names": ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}, (7, 5, 12, 0, 0)),
    "whole numbers with a point": ({"input_tokens": 7.0, "output_tokens": 5.0}, (7, 5, 12, 0, 0)),
    "nothing in the counts": ({"input_tokens": None, "output_tokens": None, "total_tokens": None}, None),
    "empty": ({}, None),
    "a text": ("much", None),
    "null": (None, None),
}


@pytest.mark.parametrize("case", USAGES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_usage_is_whole_or_null(ask, fake_upstream, case, stream, whole):
    usage, counts = USAGES[case]
    told = response("completed", output=[MESSAGE], usage=usage)
    if whole:
        fake_upstream.script(Reply([json.dumps(told).encode()], headers=JSON, framing="length"))
    else:
        fake_upstream.script(Reply([CREATED, done(0, MESSAGE), event("response.completed", response=told)]))
    answer = ask.create(stream=stream)
    response_ = answer.events()[-1]["response"] if stream else answer.json()
    assert ask.get(f"/v1/responses/{response_['id']}").json()["usage"] == response_["usage"]
    found = response_["usage"] and (
        *(response_["usage"][name] for name in ("input_tokens", "output_tokens", "total_tokens")),
        response_["usage"]["input_tokens_details"]["cached_tokens"],
        response_["usage"]["output_tokens_details"]["reasoning_tokens"],
    )
    assert found == counts
