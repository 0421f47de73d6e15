"""Slow clients slow their upstream down; stalled ones are disconnected, and each disconnect is noticed."""

import contextlib
import json
import socket
import threading

import pytest

from floway_core.testing import Reply, Step, message_stream
from floway_core.testing.events import DONE

from ..support.raw_upstream import RawUpstream, chunked, head
from ..support.readiness import is_writable
from .raw_client import connect, read_until, request, wait_for

pytestmark = pytest.mark.soak  # long: many processes, or waits

PIECE = message_stream("x" * 60_000)[4]
OFFERED = 128 * 2**20
BUFFERED = 48 * 2**20
"""More than the systems of three sockets hold for those who do not read, and much less than what is offered."""


@pytest.fixture
def talkative():
    """An upstream that would send very much; ``sent`` tells how much of it was taken."""
    state = {"sent": 0, "pieces": 0}
    stalled = threading.Event()

    def play(talk):
        talk.request()
        talk.send(head("content-type: text/event-stream", "transfer-encoding: chunked"))
        talk.socket.setblocking(False)
        piece = chunked(PIECE)
        while state["sent"] < OFFERED:
            at, state["pieces"] = 0, state["pieces"] + 1
            while at < len(piece):
                if not is_writable(talk.socket, 0.5):
                    stalled.set()
                    is_writable(talk.socket, None)
                count = talk.socket.send(piece[at:])
                at += count
                state["sent"] += count
        talk.socket.setblocking(True)
        talk.send(chunked(*message_stream()[-2:]) + b"0\r\n\r\n")
        talk.hold()

    with RawUpstream(play) as upstream:
        upstream.stalled, upstream.state = stalled, state
        yield upstream


def test_a_slow_reader_slows_its_upstream_down(gateway, talkative):
    with connect(gateway, receive_buffer=2**16) as client:
        client.sendall(request(gateway, talkative.url, stream=True, store=False))
        assert talkative.stalled.wait(20), "the gateway took all that was offered"
        assert talkative.state["sent"] < BUFFERED
        received = 0
        last = b""
        while DONE not in last:
            piece = client.recv(2**20)
            assert piece
            received += len(piece)
            last = last[-100:] + piece
    assert received > talkative.state["pieces"] * len(PIECE) > OFFERED - 2**20


def test_a_client_that_stops_reading_is_given_up(start, call, talkative, fake_upstream):
    gateway = start(client_timeout="1")
    with connect(gateway, receive_buffer=2**16) as client:
        client.sendall(request(gateway, talkative.url, stream=True, store=False))
        assert talkative.stalled.wait(20)
        wait_for(lambda: "stalled for 1 seconds: 127.0.0.1" in gateway.log)
        wait_for(lambda: "outcome=cut" in gateway.log)
    fake_upstream.script(Reply(message_stream()))
    assert call(gateway).create().status == 200


@pytest.mark.parametrize("part", ["nothing", "half a head", "half a body"])
def test_a_client_that_stops_sending_is_given_up(start, fake_upstream, part):
    gateway = start(client_timeout="0.3")
    whole = request(gateway, fake_upstream.url)
    end = {"nothing": 0, "half a head": 40, "half a body": len(whole) - 5}[part]
    with connect(gateway) as client:
        client.sendall(whole[:end])
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(2**16):
                received += piece
    if part == "half a body":
        assert received.startswith(b"HTTP/1.1 408 ")
        assert json.loads(received[received.index(b"{") :])["error"]["code"] == "request_timeout"
    else:
        assert received == b""
    assert fake_upstream.requests == []


def test_a_client_that_keeps_reading_slowly_is_not_given_up(start, fake_upstream):
    """It takes a little again and again, which is all that is asked of it."""
    gateway = start(client_timeout="0.5")
    chunks = [message_stream("x" * 50_000)[4]] * 200
    first, *_, last = message_stream()
    fake_upstream.script(Reply([first, *chunks, last]))
    with connect(gateway, receive_buffer=2**14) as client:
        client.sendall(request(gateway, fake_upstream.url, stream=True, store=False))
        received, slowly = b"", 0
        pause = threading.Event()
        while DONE not in received[-2000:]:
            if slowly < 20:
                pause.wait(0.1)  # being slow is what this client is for
                slowly += 1
            piece = client.recv(2**15)
            assert piece
            received += piece
    assert "stalled for" not in gateway.log


def test_the_upstream_of_a_client_that_hangs_up_is_closed_within_a_second(ask, fake_upstream):
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = ask.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(60)  # long before any timeout of the gateway


def test_a_half_read_answer_is_nobody_elses(ask, fake_upstream):
    """The connection on which it came is not used again, although the upstream would go on."""
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]), Reply(message_stream("mine")))
    answer = ask.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(60)
    fake_upstream.release.set()
    assert b"mine" in ask.create().body
    assert [asked.connection for asked in fake_upstream.requests] == [1, 2]


def test_a_client_that_does_not_close_holds_nobody_up(gateway, ask):
    """It was told that its answer is the last on this connection, and leaves it open; others are served meanwhile."""
    idle = [connect(gateway) for _ in range(20)]
    for client in idle:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
    for client in idle:
        read_until(client, b'"ok"')
    assert ask.get("/healthz").status == 200  # gunicorn waits two seconds for each, and does nothing else
    for client in idle:
        assert client.recv(1) == b""
        client.shutdown(socket.SHUT_RDWR)
        client.close()
