"""A client that does not stream gets one JSON object, or a status that states the failure."""

import json

import pytest

from floway_core.testing import Reply, Step, event, failed_stream, items_stream, message_item, message_stream
from floway_core.testing.events import function_call_item, parse, renamed, response

JSON = [("content-type", "application/json")]


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("empty_output", [True, False])
def test_the_events_become_one_response(ask, fake_upstream, framing, empty_output):
    items = [message_item("Grüße \u2028 😀"), function_call_item("f", '{"a":1}')]
    chunks = items_stream(items, empty_output=empty_output, custom=[1])
    fake_upstream.script(Reply(chunks, framing=framing))
    answer = ask.create(store=False)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(renamed(answer.body)) == parse(items_stream(items, custom=[1])[-1])[0]["response"]


def test_the_events_arrive_byte_by_byte(ask, fake_upstream):
    stream = b"".join(message_stream("😀", empty_output=True))
    fake_upstream.script(Reply([stream[at : at + 1] for at in range(len(stream))]))
    assert ask.create(store=False).json()["output"] == [message_item("😀")]


def test_the_upstream_decides_about_streaming_not_the_client(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(stream=False, store=False).json()["status"] == "completed"
    assert json.loads(fake_upstream.requests[0].body)["stream"] is False


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("context_length_exceeded", 400),
        ("invalid_prompt", 400),
        ("rate_limit_exceeded", 429),
        ("insufficient_quota", 429),
        ("usage_cap_exceeded", 429),
        ("monthly_limit_reached", 429),
        ("server_is_overloaded", 503),
        ("server_error", 502),
        ("made_up", 502),
    ],
)
def test_a_failure_has_a_status(ask, refused, fake_upstream, code, status):
    fake_upstream.script(Reply(failed_stream(code, "Because of this.")))
    kind = "rate_limit_error" if status == 429 else None
    assert refused(ask.create(store=False), status, code, type=kind) == "Because of this."


def test_a_failure_without_words(ask, refused, fake_upstream):
    fake_upstream.script(Reply([event("response.failed", response=response("failed"))]))
    refused(ask.create(store=False), 502, "upstream_disconnected")


def test_an_error_event_without_a_terminal_one(ask, refused, fake_upstream):
    told = {"code": "rate_limit_exceeded", "message": "Slow down."}
    fake_upstream.script(Reply([event("error", sequence_number=0, error=told), Step.CUT]))
    assert refused(ask.create(store=False), 429, "rate_limit_exceeded", type="rate_limit_error") == "Slow down."


@pytest.mark.parametrize("end", [[], [Step.CUT], [Step.HOLD, Step.RESET]], ids=["ends", "cut", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_an_answer_that_breaks_off(ask, refused, fake_upstream, framing, end):
    fake_upstream.release.set()
    fake_upstream.script(Reply([*message_stream()[:-1], *end, b"rest" if end else b""], framing=framing))
    refused(ask.create(store=False), 502, "upstream_disconnected")


def test_an_incomplete_response_is_an_answer(ask, fake_upstream):
    fake_upstream.script(Reply([event("response.incomplete", response=response("incomplete"))]))
    assert ask.create(store=False).json()["status"] == "incomplete"


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json"])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_an_upstream_may_answer_in_json(ask, fake_upstream, kind, framing):
    content = json.dumps(response("completed", output=[message_item("a\u2028\ud83d")], custom=[1])).encode()
    fake_upstream.script(Reply([content[:9], content[9:]], headers=[("content-type", kind)], framing=framing))
    answer = ask.create(store=False)
    assert (answer.status, json.loads(renamed(answer.body))) == (200, json.loads(content))


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff", b"[]", b"7", b"null", b'"text"'])
def test_json_that_is_no_response(ask, refused, fake_upstream, content):
    fake_upstream.script(Reply([content], headers=JSON, framing="length"))
    refused(ask.create(store=False), 502, "upstream_disconnected")


@pytest.mark.parametrize("step", [Step.CUT, Step.RESET])
def test_json_that_breaks_off(ask, refused, fake_upstream, step):
    fake_upstream.script(Reply([b'{"id":', step, b'"resp_1"}'], headers=JSON, framing="length"))
    refused(ask.create(store=False), 502, "upstream_disconnected")


def test_a_page_instead_of_an_answer(ask, refused, fake_upstream):
    fake_upstream.script(Reply([b"<html>Hi</html>"], headers=[("content-type", "text/html")], framing="length"))
    refused(ask.create(store=False), 502, "upstream_disconnected")
