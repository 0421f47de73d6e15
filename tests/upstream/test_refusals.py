"""Upstreams that refuse, cannot be reached, or send nothing."""

import json

import pytest

from floway_core.testing import Reply, Step, message_stream

JSON = ("content-type", "application/json")
RELAYED = b'{ "error": {"message":"Nope","type":"odd","param":null,"code":null,"resets_in":7}, "more": [1] }'


def refusal(status, content, *headers, framing="length"):
    return Reply([content], status, [*headers], framing)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503, 529])
def test_an_openai_error_is_relayed_byte_for_byte(ask, fake_upstream, stream, framing, status):
    headers = [JSON, ("retry-after", "7"), ("x-ratelimit-remaining-tokens", "0"), ("set-cookie", "a=b")]
    fake_upstream.script(refusal(status, RELAYED, *headers, framing=framing))
    answer = ask.create(stream=stream)
    assert (answer.status, answer.body) == (status, RELAYED)
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining-tokens"]) == ("7", "0")
    assert answer.headers["set-cookie"] is None
    assert len(fake_upstream.requests) == 1


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (400, "invalid_request_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"detail":"Unsupported parameter: x."}', "Unsupported parameter: x."),
        (b'{"message":"Not you."}', "Not you."),
        (b'{"error":"Just a text."}', "Just a text."),
        (b"Plain words.", "Plain words."),
        (b"", "The upstream gave no reason."),
        (b"\xff\xfe.", "\ufffd\ufffd."),
        (b'{"detail":[{"msg":"Not so."}]}', "Not so."),
    ],
)
def test_another_refusal_is_put_into_openais_shape(ask, refused, fake_upstream, status, type, content, says):
    fake_upstream.script(*[refusal(status, content, ("retry-after", "7"))] * 2)
    answer = ask.create()
    assert refused(answer, status, "upstream_refused", type=type) == says
    assert answer.headers["retry-after"] == "7"


def test_of_a_page_the_words_are_kept(ask, refused, fake_upstream):
    page = b"""<!DOCTYPE html><html><head><title>T</title><style>b{color:red}</style></head><body><!-- hidden -->
        <script>alert("x < y")</script><h1>Access&nbsp;denied</h1> <p>You &amp; your address are blocked.</p></body>"""
    fake_upstream.script(refusal(409, page, ("content-type", "text/html")))
    answer = ask.stream()
    message = refused(answer, 409, "upstream_refused")
    assert message == "Access denied You & your address are blocked."


def test_a_huge_refusal_is_cut(ask, refused, fake_upstream):
    fake_upstream.script(Reply([b"word. " * 200_000, Step.HOLD], 500, [], "chunked"))
    assert len(refused(ask.create(), 500, "upstream_refused")) <= 500
    assert fake_upstream.requests[0].peer_gone.wait(60)


def test_a_refusal_that_breaks_off_is_still_that_refusal(ask, refused, fake_upstream):
    fake_upstream.script(Reply([b"Overloaded.", Step.CUT, b"rest"], 503, [], "length"))
    assert refused(ask.create(), 503, "upstream_refused") == "Overloaded."


@pytest.mark.parametrize("status", [300, 302, 304, 307, 399])
def test_a_redirect_is_not_followed(ask, refused, fake_upstream, status):
    elsewhere = ("location", f"{fake_upstream.url}/elsewhere")
    fake_upstream.script(refusal(status, b"" if status == 304 else b"Go there.", elsewhere), Reply(message_stream()))
    refused(ask.create(), 502, "upstream_refused")
    assert len(fake_upstream.requests) == 1


# ------------------------------------------------------------------------------------------------- a second dispatch
def test_a_refusal_that_can_be_mended_is_dispatched_again(ask, fake_upstream):
    ask.headers["x-test-note"] = "yes"
    fake_upstream.script(refusal(401, RELAYED, JSON), Reply(message_stream()))
    assert ask.create([{"role": "user", "content": "Hi"}]).status == 200
    first, second = fake_upstream.requests
    assert first.body == second.body and json.loads(first.body)["input"][1:] == [{"type": "note"}]
    assert first.headers == second.headers and (first.method, first.path) == (second.method, second.path)


def test_the_second_refusal_is_relayed(ask, fake_upstream):
    fake_upstream.script(refusal(401, b'{"error":{"message":"first"}}', JSON), refusal(400, RELAYED, JSON))
    answer = ask.stream()
    assert (answer.status, answer.body) == (400, RELAYED)
    first, second = fake_upstream.requests
    assert (first.headers, first.body) == (second.headers, second.body)


def test_mending_for_ever_is_stopped(ask, fake_upstream):
    fake_upstream.script(*[refusal(401, RELAYED, JSON)] * 9)
    ask.headers["x-test-recover"] = "always"
    assert (ask.create().status, len(fake_upstream.requests)) == (503, 4)


# --------------------------------------------------------------------------------------------------------- no answer
@pytest.mark.parametrize("stream", [True, False])
def test_an_upstream_that_cannot_be_reached(ask, refused, gateway, unreachable, stream):
    """The operator is told where it is, and the client is not."""
    ask.headers["x-test-upstream"] = unreachable
    message = refused(ask.create(stream=stream), 502, "upstream_unreachable")
    assert message == "The upstream cannot be reached."
    assert f"The upstream at {unreachable} cannot be reached" in gateway.log


@pytest.mark.parametrize("step", [Step.CUT, Step.RESET])
def test_an_upstream_that_hangs_up_without_an_answer(ask, refused, fake_upstream, step):
    fake_upstream.script(*[Reply(before=[step])] * 9)
    refused(ask.create(), 502, "upstream_unreachable")
    assert len(fake_upstream.requests) == 1  # it may have acted on it: asking again is the client's decision


def test_what_the_upstream_receives(ask, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    ask.headers["X-Test-Mine"] = "kept"
    assert ask.create().status == 200
    (request,) = fake_upstream.requests
    assert (request.method, request.path) == ("POST", "/answers")
    names = [name for name, _ in request.headers]
    assert names[:2] == ["Content-Type", "x-State"]  # spelling and order of the plugin
    own = {"host", "content-length", "x-test-upstream", "x-test-mine"}
    assert {name.lower() for name in names[2:]} == own
    text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    assert json.loads(request.body) == {"model": "model-1", "input": [text]}
