"""Upstreams that answer before they have read a large request."""

import json
import threading
from pathlib import Path

import pytest

from floway_core.testing import RunningGateway, message_stream
from floway_core.testing.events import DONE

from ..support.certificates import server_context
from ..support.raw_upstream import PATIENCE, Gone, RawUpstream, chunked, head
from ..support.stored_upstreams import add_upstreams

RECEIVE_BUFFER = 2**16
SEND_BUFFER = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[-1])
LARGE = "x" * (SEND_BUFFER + 16 * RECEIVE_BUFFER)
"""More than the system takes on behalf of both sides."""

REFUSAL = b'{"error":{"message":"Too much.","type":"invalid_request_error","param":null,"code":"too_large"}}'
STREAM = head("content-type: text/event-stream", "transfer-encoding: chunked")
FIRST, *OTHERS = [chunked(event) for event in message_stream()]


@pytest.fixture(scope="module")
def gateway(plugin_folder, journal_file, certificates):
    """A gateway that takes large requests, and trusts the authority."""
    environ = {"TEST_JOURNAL": str(journal_file), "REQUESTS_CA_BUNDLE": str(certificates[0])}
    with RunningGateway(plugin_folders=[plugin_folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        yield gateway


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def tls(request, certificates):
    return server_context("TLSv1_3", certificates[1]) if request.param else None


def refusal(status):
    return head("content-type: application/json", f"content-length: {len(REFUSAL)}", status=status) + REFUSAL


def first_then_well_behaved(first):
    """Plays ``first`` on the first connection, and a good upstream on the others."""

    def play(talk):
        if talk.number == 1:
            first(talk)
        while True:
            talk.request()
            talk.answer(b"".join(message_stream()))

    return play


@pytest.mark.parametrize("status", ["413 Content Too Large", "400 Bad Request", "503 Service Unavailable"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_is_heard_before_the_body_is_read(ask, tls, status, stream):
    """And the connection, which still waits for the rest of the body, serves no other request."""
    closed = threading.Event()

    def refuse(talk):
        talk.head()
        talk.send(refusal(status))
        try:
            talk.wait()  # with the connection open, reading nothing
        finally:
            closed.set()

    with RawUpstream(first_then_well_behaved(refuse), tls=tls, receive_buffer=RECEIVE_BUFFER) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.create(LARGE, stream=stream)
        assert (answer.status, answer.body) == (int(status[:3]), REFUSAL)
        assert not closed.is_set()
        assert ask.create().status == 200
        assert upstream.connections == 2


@pytest.mark.parametrize("reused", [False, True], ids=["new connection", "used connection"])
def test_a_refusal_arrives_although_the_upstream_closes(ask, tls, reused):
    """It resets the connection then, because it has not read everything."""

    def refuse(talk):
        if reused:
            talk.request()
            talk.answer(b"".join(message_stream()))
        talk.head()
        talk.send(refusal("413 Content Too Large"))
        raise Gone

    with RawUpstream(first_then_well_behaved(refuse), tls=tls, receive_buffer=RECEIVE_BUFFER) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        if reused:
            assert ask.create().status == 200
        answer = ask.create(LARGE)
        assert (answer.status, answer.body) == (413, REFUSAL)
        assert upstream.heads.qsize() == 1 + reused  # it was not sent once more
        assert ask.create().status == 200


def test_a_stream_is_relayed_before_the_body_is_read(ask, tls):
    def stream(talk):
        talk.head()
        talk.send(STREAM + FIRST)
        talk.wait()
        talk.send(b"".join(OTHERS) + chunked(b""))
        talk.wait()

    with RawUpstream(first_then_well_behaved(stream), tls=tls, receive_buffer=RECEIVE_BUFFER) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.stream(LARGE)
        answer.read_until(b"\n\n")
        upstream.go_on()
        assert answer.status == 200 and answer.body.endswith(DONE)
        assert ask.create().status == 200
        assert upstream.connections == 2


def test_the_rest_of_the_body_follows_a_stream_that_has_begun(ask, tls):
    def play(talk):
        request = talk.head()
        talk.send(STREAM + FIRST)
        talk.wait()
        talk.rest(request)
        talk.send(b"".join(OTHERS) + chunked(b""))
        talk.hold()

    with RawUpstream(play, tls=tls, receive_buffer=RECEIVE_BUFFER) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.stream(LARGE)
        answer.read_until(b"\n\n")
        upstream.go_on()
        assert answer.body.endswith(DONE)
        assert LARGE in json.loads(upstream.wait_for_request())["input"][0]["content"][0]["text"]


@pytest.mark.parametrize("interim", [b"", head(status="102 Processing")], ids=["silently", "with an interim answer"])
def test_an_upstream_may_read_in_small_pieces(ask, tls, interim):
    def play(talk):
        while True:
            request = talk.head()
            talk.send(interim)
            talk.rest(request)
            talk.answer(b"".join(message_stream()))

    with RawUpstream(play, tls=tls, receive_buffer=4096) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        for _ in range(2):
            assert ask.create(LARGE).status == 200
            assert LARGE in json.loads(upstream.wait_for_request())["input"][0]["content"][0]["text"]
        assert upstream.connections == 1


def test_a_hang_up_is_noticed_while_the_body_is_sent(ask):
    def play(talk):
        talk.head()
        talk.wait()
        talk.hold()

    with RawUpstream(play, receive_buffer=RECEIVE_BUFFER) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.create(LARGE)
        upstream.heads.get(timeout=PATIENCE)
        answer.hang_up()
        upstream.go_on()
        assert upstream.gone.wait(PATIENCE)
        assert upstream.bodies.empty()
