"""Streaming: an answer that breaks off ends with the events of a failure."""

import pytest

from floway_core.testing import Reply, Step, event, failed_stream, items_stream, message_item, message_stream
from floway_core.testing.events import DONE, parse, renamed, response

PATIENCE = 60


@pytest.fixture(scope="session")
def impatient(start_wired):
    """A gateway that gives a silent upstream up soon."""
    return start_wired(idle_timeout="0.3", first_byte_timeout="0.3")


def failure_after(answer, relayed, code):
    """Assert that ``answer`` is ``relayed`` and then the two events of a failure; return the response told at last."""
    body = renamed(answer.body)
    assert body.startswith(relayed)
    error, failed = parse(body[len(relayed) :])
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert error["code"] == code and error["message"].endswith(".")
    assert error["error"]["code"] == code and error["error"]["message"] == error["message"]
    assert failed["response"]["error"] == {"code": code, "message": error["message"]}
    numbers = [told["sequence_number"] for told in parse(body)]
    assert numbers == sorted(set(numbers))
    assert DONE not in body
    assert failed["response"]["status"] == "failed"
    return failed["response"]


STARTED = items_stream([message_item("one")], model="m", tools=[{"type": "function", "name": "f"}])[:-1]


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("step", [Step.CUT, Step.RESET])
@pytest.mark.parametrize("part", [b"", b"event: response.completed\ndata: {"], ids=["between events", "inside one"])
def test_an_upstream_that_hangs_up(ask, fake_upstream, framing, step, part):
    # held, because a reset would take along what the gateway has not read yet
    fake_upstream.script(Reply([b"".join(STARTED), part, Step.HOLD, step, b"the rest"], framing=framing))
    answer = ask.stream(store=False)
    answer.read_until(STARTED[-1])
    fake_upstream.release.set()
    told = failure_after(answer, b"".join(STARTED), "upstream_disconnected")
    assert (told["id"], told["model"], told["tools"]) == ("resp_1", "m", [{"type": "function", "name": "f"}])
    assert told["output"] == [message_item("one")]


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_stream_without_a_terminal_event(ask, fake_upstream, framing):
    fake_upstream.script(Reply(STARTED, framing=framing))
    assert failure_after(ask.stream(store=False), b"".join(STARTED), "upstream_disconnected")["id"] == "resp_1"


@pytest.mark.parametrize("last", [b": ping\n\n", b"\n\n", b"event: ping\ndata: {}\n\n"])
@pytest.mark.parametrize("together", [True, False])
def test_the_numbers_go_on_whatever_came_last(ask, fake_upstream, last, together):
    chunks = [*STARTED, last]
    fake_upstream.script(Reply([b"".join(chunks)] if together else chunks))
    answer = ask.stream(store=False)
    error, failed = parse(renamed(answer.body)[len(b"".join(chunks)) :])
    highest = parse(STARTED[-1])[0]["sequence_number"]
    assert (error["sequence_number"], failed["sequence_number"]) == (highest + 1, highest + 2)


@pytest.mark.parametrize("chunks", [[], [b": nothing\n\n"], [b"\n\n"]])
def test_a_stream_without_any_event(ask, fake_upstream, chunks):
    fake_upstream.script(Reply(chunks))
    told = failure_after(ask.stream(store=False), b"".join(chunks), "upstream_disconnected")
    assert told["object"] == "response" and told["id"].startswith("resp_") and told["output"] == []


def test_an_upstream_that_falls_silent(call, impatient, fake_upstream):
    fake_upstream.script(Reply([*STARTED, Step.HOLD, b"never"]))
    told = failure_after(call(impatient).stream(store=False), b"".join(STARTED), "upstream_timeout")
    assert "silent" in told["error"]["message"]
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


def test_an_upstream_that_is_silent_from_the_start(call, impatient, refused, fake_upstream):
    fake_upstream.script(Reply(message_stream(), before=[Step.HOLD]))
    refused(call(impatient).stream(store=False), 504, "upstream_timeout")
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


def test_an_upstream_that_is_silent_after_the_head(call, impatient, fake_upstream):
    fake_upstream.script(Reply([Step.HOLD, *message_stream()]))
    failure_after(call(impatient).stream(store=False), b"", "upstream_timeout")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("step", [[], [Step.CUT]])
def test_an_error_event_without_a_terminal_one_is_completed(ask, fake_upstream, together, nested, step):
    told = {"code": "server_is_overloaded", "message": "Too many of you."}
    error = event("error", sequence_number=9, **({"error": told} if nested else told))
    chunks = [*STARTED, error]
    fake_upstream.script(Reply([*([b"".join(chunks)] if together else chunks), *step]))
    answer = ask.stream(store=False)
    body = renamed(answer.body)
    assert body.startswith(b"".join(chunks))
    (failed,) = parse(body[len(b"".join(chunks)) :])
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 10)
    assert failed["response"]["error"] == told
    assert failed["response"]["id"] == "resp_1"
    assert DONE not in answer.body


def test_a_failure_that_the_upstream_tells_is_relayed_as_it_is(ask, fake_upstream):
    chunks = failed_stream("rate_limit_exceeded", "Slow down.")
    fake_upstream.script(Reply(chunks))
    assert renamed(ask.stream(store=False).body) == b"".join(chunks)


def test_what_follows_a_failure_is_not_relayed(ask, fake_upstream):
    chunks = failed_stream("server_error", "Oh no.")
    fake_upstream.script(Reply([b"".join([*chunks, *message_stream(), DONE])]))
    assert renamed(ask.stream(store=False).body) == b"".join(chunks)


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "text/plain", "nonsense"])
def test_a_client_that_streams_gets_no_answer_of_another_type(ask, refused, fake_upstream, kind):
    fake_upstream.script(Reply([b'{"object":"response"}', Step.HOLD], headers=[("content-type", kind)]))
    assert kind in refused(ask.stream(store=False), 502, "upstream_disconnected")
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'"text"', b'{"type":"response.completed","response":7}', b"\xff\xfe", b""]
)
def test_an_event_that_cannot_be_read_is_relayed_but_counts_for_nothing(ask, fake_upstream, data):
    odd = b"event: response.completed\ndata: " + data + b"\n\n"
    fake_upstream.script(Reply([STARTED[0], odd]))
    body = renamed(ask.stream(store=False).body)
    assert body.startswith(STARTED[0] + odd)
    assert body.count(b"event: response.failed\n") == 1 and DONE not in body


def test_a_response_that_was_queued_fails_too(ask, fake_upstream):
    chunks = [
        event("response.created", sequence_number=0, response=response("queued")),
        event("response.in_progress", sequence_number=5, response=response("in_progress")),
    ]
    fake_upstream.script(Reply(chunks))
    told = failure_after(ask.stream(store=False), b"".join(chunks), "upstream_disconnected")
    assert (told["id"], told["status"]) == ("resp_1", "failed")
