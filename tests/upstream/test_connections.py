"""Connections to upstreams and clients that do what they may but seldom do: interim answers, resets, stray bytes."""

import json
import socket
import time
import traceback
from urllib.parse import urlsplit

import pytest

from floway_core.engine.upstream_body import UpstreamEvents
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamUnreachable
from floway_core.runtime.settings_loader import load_settings
from floway_core.testing import Reply, Step, message_stream
from floway_core.testing.events import DONE

from ..support.raw_upstream import NOBODY, PATIENCE, RawUpstream, chunked, head, new_client, read_whole

BEGUN = head("content-type: text/event-stream", "transfer-encoding: chunked")


# ----------------------------------------------------------------------------------- which answer is to which request
INTERIM = {
    "100": [head(status="100 Continue")],
    "102": [head(status="102 Processing")],
    "103": [head("link: </style.css>; rel=preload", status="103 Early Hints")],
    "199": [head(status="199 Made Up")],
    "several": [head(status="102 Processing"), head(status="100 Continue"), head("link: x", status="103 Early Hints")],
}


@pytest.mark.parametrize("interim", INTERIM)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_an_interim_answer_is_not_the_answer(ask, logged, interim, together, stream):
    def play(talk):
        while True:
            asked = json.loads(talk.request())["input"][0]["content"][0]["text"]
            body = b"".join(message_stream(f"answer to {asked}"))
            answer = head("content-type: text/event-stream", f"content-length: {len(body)}") + body
            pieces = [*INTERIM[interim], answer]
            talk.send(*([b"".join(pieces)] if together else pieces))

    with RawUpstream(play) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        for number in range(3):
            answer = ask.create(f"question {number}", stream=stream, store=False)
            assert answer.status == 200
            told = answer.events()[-1]["response"] if stream else answer.json()
            assert told["output"][0]["content"][0]["text"] == f"answer to question {number}"
            logged(answer)
        assert upstream.connections == 1


@pytest.mark.parametrize("surplus", [b"!", head("content-length: 6") + b"forged", b"x" * 20_000])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "429 Too Many Requests"])
def test_bytes_behind_an_empty_body_are_nobodys_answer(tmp_path, surplus, status):
    def play(talk):
        first = head(*["content-length: 0"][: not status.startswith("204")], status=status) + surplus
        talk.request()
        talk.send(first if talk.number == 1 else head("content-length: 4") + b"mine")
        talk.hold()

    with RawUpstream(play) as upstream:
        client = new_client(tmp_path)
        assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, b"A")) == b""
        assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, b"B")) == b"mine"
        assert upstream.connections == 2


# ---------------------------------------------------------------------------------------------------------- the end
def test_an_end_that_came_with_the_last_event_is_known_at_once(tmp_path):
    """Nothing follows on the connection, which stays open: whoever waits for its descriptor would wait in vain."""

    def play(talk):
        talk.request()
        talk.send(BEGUN + chunked(*message_stream()[:-1]) + b"0\r\n\r\n")
        talk.hold()

    with RawUpstream(play) as upstream:
        reply = new_client(tmp_path).stream(NOBODY, "POST", f"{upstream.url}/", {}, b"{}")
        source, received = UpstreamEvents(load_settings({}), reply, "one", client=None), b""
        while not source.has_ended:
            received = source.read(PATIENCE)
        assert received  # it came with the last events, and not in a further call
        reply.body.close()


# ------------------------------------------------------------------------------------------------------- hanging up
@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_is_noticed_while_the_head_comes_in_halves(ask, stream):
    def play(talk):
        talk.request()
        talk.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
        talk.hold()

    with RawUpstream(play) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.create(stream=stream)
        upstream.wait_for_request()
        assert ask.get("/v1/models").status == 200  # meanwhile the gateway has read the first half
        answer.hang_up()
        assert upstream.gone.wait(PATIENCE)


@pytest.mark.parametrize("early", [b"\r\n", b"\n", b"GET /healthz HTTP/1.1\r\n\r\n"], ids=["CRLF", "LF", "a request"])
@pytest.mark.parametrize("begun", [True, False], ids=["within the stream", "before the head"])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_hang_up_is_noticed_after_an_early_byte(ask, gateway, early, begun, end):
    def play(talk):
        talk.request()
        if begun:
            talk.send(BEGUN + chunked(message_stream()[0]))
        talk.hold()

    with RawUpstream(play) as upstream, socket.create_connection(address(gateway), PATIENCE) as client:
        client.sendall(request(gateway, {"x-test-upstream": upstream.url}, stream=True))
        upstream.wait_for_request()
        if begun:
            assert b"HTTP/1.1 200 OK" in client.recv(2**16)
        client.sendall(early)
        assert ask.get("/v1/models").status == 200  # meanwhile the gateway has seen that byte
        if end == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert upstream.gone.wait(PATIENCE)


def test_an_early_byte_is_no_hang_up(gateway, fake_upstream):
    fake_upstream.script(Reply(message_stream(), before=[Step.HOLD]))
    with socket.create_connection(address(gateway), PATIENCE) as client:
        client.sendall(request(gateway, {"x-test-upstream": fake_upstream.url, "connection": "close"}, stream=True))
        fake_upstream.wait_for_request()
        client.sendall(b"\r\n")
        fake_upstream.release.set()
        received = b""
        while DONE not in received:
            piece = client.recv(2**16)
            assert piece, received
            received += piece


def test_a_hang_up_right_after_done_is_no_fault(ask, gateway, logged):
    first, *others = [chunked(piece) for piece in message_stream()]
    before, ids = len(gateway.log), []

    def play(talk):
        talk.request()
        talk.send(BEGUN + first)
        talk.wait()
        talk.send(b"".join(others))
        talk.hold()

    for _ in range(5):  # the log of one is complete when the next has been served
        with RawUpstream(play) as upstream:
            ask.headers["x-test-upstream"] = upstream.url
            answer = ask.stream()
            answer.read_until(b"\n\n")
            upstream.go_on()
            answer.read_until(DONE)
            answer.hang_up()
            assert upstream.gone.wait(PATIENCE)
            logged(answer)
            ids.append(answer.headers["x-request-id"])
    assert ask.get("/v1/models").status == 200
    assert "Traceback" not in gateway.log[before:]
    lines = [line for line in gateway.log.splitlines() if any(each in line for each in ids)]
    assert len(lines) == 5 and all("outcome=completed" in line for line in lines)


def address(gateway):
    parts = urlsplit(gateway.url)
    return parts.hostname, parts.port


def request(gateway, headers, **fields):
    """The bytes of a request for a response."""
    body = json.dumps({"model": "model-1", "input": "Hi", **fields}).encode()
    merged = {"host": "gateway", "authorization": f"Bearer {gateway.key}", "content-length": str(len(body)), **headers}
    lines = [f"{name}: {value}" for name, value in merged.items()]
    return "\r\n".join(["POST /v1/responses HTTP/1.1", *lines, "", ""]).encode() + body


# ---------------------------------------------------------------------------------------------------- sending slowly
CONNECT_TIMEOUT = 0.2


@pytest.mark.parametrize("reused", [False, True], ids=["new connection", "used connection"])
def test_sending_a_request_may_take_longer_than_connecting(tmp_path, reused):
    large = b"x" * (16 * 2**20)  # more than the system takes on behalf of both

    def play(talk):
        if reused:
            talk.request()
            talk.answer(b"first")
        time.sleep(3 * CONNECT_TIMEOUT)  # not to wait for anything: being slow is what this upstream is for
        talk.answer(b"%d" % len(talk.request()))

    with RawUpstream(play, receive_buffer=8192) as upstream:
        client = new_client(tmp_path, connect_timeout=CONNECT_TIMEOUT)
        if reused:
            assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, b"A")) == b"first"
        assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, large)) == b"%d" % len(large)
        assert upstream.connections == 1


# ------------------------------------------------------------------------------------------------------------ resets
TIMES = 20  # a reset takes its time, if only microseconds; one of so many hits the moment that matters


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", "content-length: 100", "connection: close"])
def test_a_reset_right_after_the_head_is_an_early_end(tmp_path, framing):
    def play(talk):
        talk.request()
        talk.send(head("content-type: text/event-stream", framing))
        talk.reset()

    with RawUpstream(play) as upstream:
        client = new_client(tmp_path)
        for _ in range(TIMES):
            with pytest.raises(GatewayError) as caught:
                read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, b"{}"))
            assert caught.value.status == 502


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_is_told_of_a_reset_right_after_the_head(ask, refused, gateway, stream):
    before = len(gateway.log)

    def play(talk):
        talk.request()
        talk.send(BEGUN)
        talk.reset()

    with RawUpstream(play) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        for _ in range(TIMES):
            answer = ask.create(stream=stream, store=False)
            if stream and answer.status == 200:
                assert [told["type"] for told in answer.events()] == ["error", "response.failed"]
                assert answer.events()[0]["code"] == "upstream_disconnected"
            else:
                assert refused(answer, 502, answer.json()["error"]["code"])
                assert answer.json()["error"]["code"] in ("upstream_disconnected", "upstream_unreachable")
    assert "Traceback" not in gateway.log[before:]


def test_a_reset_is_no_end_of_a_body_that_ends_with_the_connection(tmp_path):
    def play(talk):
        talk.request()
        talk.send(head() + b"the beginning")
        talk.wait()
        talk.reset()

    with RawUpstream(play) as upstream:
        reply = new_client(tmp_path).stream(NOBODY, "POST", f"{upstream.url}/", {}, b"{}")
        received = b""
        while len(received) < len(b"the beginning"):
            received += reply.body.read(PATIENCE)
        upstream.go_on()
        with pytest.raises(UpstreamBroken):
            assert reply.body.read(PATIENCE) is None
        reply.body.close()


# ----------------------------------------------------------------------------------------------------------- secrets
@pytest.mark.parametrize(
    "value", ["Bearer not-for-logs\nx", "Bearer not-for-logs\r\nx: y", "Bearer not-for-logs \u20ac"]
)
@pytest.mark.parametrize("way", ["stream", "fetch"])
def test_a_header_that_cannot_be_sent_is_not_told(tmp_path, fake_upstream, value, way):
    client, headers = new_client(tmp_path), {"authorization": value}
    with pytest.raises(GatewayError) as caught:
        if way == "fetch":
            client.fetch("GET", f"{fake_upstream.url}/", headers)
        else:
            client.stream(NOBODY, "POST", f"{fake_upstream.url}/", headers, b"{}")
    error = caught.value
    assert "not-for-logs" not in "".join(traceback.format_exception_only(error)) + repr(error) + repr(vars(error))
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    assert fake_upstream.requests == []


def test_closing_an_answer_twice_leaves_the_next_one_alone(tmp_path, fake_upstream):
    fake_upstream.script(Reply([b"first"], framing="length"), Reply([b"sec", Step.HOLD, b"ond"], framing="length"))
    client = new_client(tmp_path)
    first = client.stream(NOBODY, "POST", f"{fake_upstream.url}/", {}, b"{}")
    assert read_whole(first) == b"first"
    second = client.stream(NOBODY, "POST", f"{fake_upstream.url}/", {}, b"{}")
    assert second.body.read(PATIENCE) == b"sec"
    first.body.close()
    assert second.body._socket.gettimeout() == 0, "its reads would block, and nobody would look after the client"
    fake_upstream.release.set()
    assert read_whole(second) == b"ond"


def test_credentials_in_a_url_go_nowhere(tmp_path, fake_upstream, unreachable, caplog):
    """Neither into the ``host`` header, nor into the log or an error."""
    client = new_client(tmp_path)
    fake_upstream.script(*[Reply(framing="length")] * 2)
    url = fake_upstream.url.replace("//", "//name:word@")
    read_whole(client.stream(NOBODY, "POST", url, {}, b"{}"))
    client.fetch("GET", url, {})
    assert [request.header("host") for request in fake_upstream.requests] == [urlsplit(fake_upstream.url).netloc] * 2
    closed = unreachable.replace("//", "//name:word@")
    for send in (lambda: client.stream(NOBODY, "POST", closed, {}, b"{}"), lambda: client.fetch("GET", closed, {})):
        with pytest.raises(UpstreamUnreachable) as failed:
            send()
        assert "word" not in failed.value.message + caplog.text
