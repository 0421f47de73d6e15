"""Answers that are no answer or end in an odd way are recognised, and another upstream is tried."""

import gzip
import json
import re

import pytest

from floway_core.testing import Reply, Step, event, message_item, message_stream
from floway_core.testing.events import DONE, parse, response

from ..support.odd_events import (
    CREATED,
    JSON,
    MESSAGE,
    OVERLOAD,
    SHELL,
    about,
    added,
    completed,
    done,
)

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
    "no credit": ({"error": {"message": "Busy.", "code": 402}}, 402, "Busy."),
    "a response in a wrapper": ({"response": response("completed", output=[MESSAGE])}, 502, "a response object"),
    "a chat completion": ({"object": "chat.completion", "choices": []}, 502, "a response object"),
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
    "done, then silence": [CREATED, DONE, Step.HOLD],
    "a failure without a reason": [CREATED, event("response.failed", response=response("failed", error=None))],
    "a failure without its response": [CREATED, event("response.failed", error=OVERLOAD)],
    "a cancelled response": [CREATED, event("response.completed", response=response("cancelled"))],
    "a page": [b"<html>Wait</html>"],
    "an error, then silence": [event("error", error=OVERLOAD), Step.HOLD],
}
SLOW_BEGINNING = ("an error, then silence", False)


@pytest.mark.parametrize(
    ("case", "stream"),
    [
        # the gateway waits two seconds for an end of that stream, as in test_silence_after_an_error_is_not_waited_for
        pytest.param(case, stream, marks=pytest.mark.soak if (case, stream) == SLOW_BEGINNING else ())
        for case in BEGINNINGS
        for stream in (True, False)
    ],
)
def test_a_stream_that_fails_before_its_content_gives_way(ask, fake_upstream, case, stream):
    fake_upstream.script(Reply(BEGINNINGS[case]))
    answer = ask.create(model="shared", stream=stream, store=False)
    told = answer.events() if stream else [{"response": answer.json()}]
    assert told[-1]["response"]["status"] == "completed"
    assert not [one for one in told if one.get("type") in ("error", "response.failed")]


def data(*contents):
    """One event, with a line of data for each of ``contents``."""
    return b"".join(b"data: %b\n" % json.dumps(content).encode() for content in contents) + b"\n"


CUT_ANYWHERE = {
    "events after the end mark": [CREATED, done(0, MESSAGE), DONE, completed(MESSAGE)],
    "two objects in an event": [
        data({"type": "response.created", "response": response()}),
        data({"type": "response.failed", "error": OVERLOAD}, {"type": "response.in_progress"}),
        b": a comment\n\n",
        data({"type": "response.completed", "response": response("completed", output=[MESSAGE])}),
    ],
}


@pytest.mark.parametrize("case", CUT_ANYWHERE)
@pytest.mark.parametrize("stream", [True, False])
def test_the_answer_does_not_depend_on_how_it_arrives(ask, fake_upstream, case, stream):
    events = CUT_ANYWHERE[case]
    told = []
    for chunks in (events, [b"".join(events)], [bytes([byte]) for byte in b"".join(events)]):
        fake_upstream.script(Reply(chunks))
        answer = ask.create(stream=stream, store=False)
        told.append((answer.status, re.sub(rb"resp_\w+|created_at\":\d+", b"", answer.received)))
    assert told[0] == told[1] == told[2]


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


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("ends", ["well", "badly", "early"])
def test_events_are_events_whatever_they_are_called(ask, fake_upstream, stream, kind, ends):
    chunks = {"well": message_stream(), "badly": [CREATED, event("error", error=OVERLOAD)], "early": [CREATED]}[ends]
    fake_upstream.script(Reply(chunks, headers=[("content-type", kind)]))
    answer = ask.create(stream=stream, store=False)
    if ends == "well":
        told = answer.events()[-1]["response"] if stream else answer.json()
        assert told["output"] == [message_item("Hello there.")]
    else:
        assert (answer.status, answer.json()["error"]["message"][:8]) == (
            (503, "Too many") if ends == "badly" else (502, "The upst")
        )


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
@pytest.mark.parametrize("error", [{"code": None, "message": None}, {}, "", False])
def test_an_error_of_nothing_is_none(ask, fake_upstream, stream, error):
    whole = json.dumps(response("completed", output=[MESSAGE], error=error)).encode()
    fake_upstream.script(Reply([whole], headers=JSON, framing="length"))
    answer = ask.create(stream=stream, store=False)
    told = answer.events()[-1]["response"] if stream else answer.json()
    assert (told["status"], told["output"]) == ("completed", [MESSAGE])


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


def test_silence_after_an_error_is_not_waited_for(ask, fake_upstream):
    """The gateway's idle timeout is five minutes; the client of this test waits for one."""
    fake_upstream.script(*[Reply([CREATED, event("error", error=OVERLOAD), Step.HOLD])] * 2)
    streamed, whole = ask.stream(), ask.create()  # both wait at the same time
    for told in (parse(streamed.body)[-1]["response"]["error"], whole.json()["error"]):
        assert (told["code"], told["message"]) == ("server_is_overloaded", "Too many.")
