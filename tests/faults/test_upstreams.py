"""Faulty upstreams: the client gets an error in time, and the gateway keeps no trace."""

import hashlib
import itertools
from functools import partial

import pytest

from floway_core.testing import Reply, Step, event, message_stream
from floway_core.testing.events import DONE, parse, renamed

from ..support.raw_upstream import PATIENCE, Gone, RawUpstream, chunked, head
from .raw_client import connect, request

FIRST, *OTHERS = message_stream()


@pytest.fixture(scope="session")
def hasty(start_wired):
    """A gateway that gives an upstream little time in all, and much in between."""
    return start_wired(total_timeout="0.6", first_byte_timeout="0.6", idle_timeout="60", keepalive_interval="60")


@pytest.fixture
def playing():
    """Makes an upstream that plays what it is given, until its peer hangs up; ``gone`` tells of that."""
    made = []

    def make(play):
        def whole(talk):
            talk.request()
            try:
                play(talk)
            except OSError:
                talk._upstream.gone.set()
                raise Gone from None
            talk.hold()

        made.append(RawUpstream(whole).__enter__())
        return made[-1]

    yield make
    for upstream in made:
        upstream.__exit__()


def asked(caller, upstream, **fields):
    caller.headers["x-test-upstream"] = upstream.url
    return caller.create(store=False, **fields)


# ----------------------------------------------------------------------------------------------------- heads, and none
BEGINS = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def drop_by_drop(start, piece):
    """Sends ``piece`` again and again, slowly enough that each comes alone."""

    def play(talk):
        talk.send(start)
        for _ in itertools.count():
            talk.socket.settimeout(0.05)
            try:
                if not talk.socket.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                talk.send(piece)

    return play


def test_a_head_that_never_ends(call, hasty, refused, playing):
    """Each piece comes in time; all together they take too long."""
    waiting = []
    for stream in (True, False):
        for start, piece in ((BEGINS, b"x"), (BEGINS, b"x-more: 1\r\n"), (b"", INTERIM)):
            upstream = playing(drop_by_drop(start, piece))
            waiting.append((upstream, asked(call(hasty), upstream, stream=stream)))
    for upstream, answer in waiting:
        refused(answer, 504, "upstream_timeout")
        assert upstream.gone.wait(PATIENCE)


@pytest.mark.parametrize("start, piece", [(BEGINS, b"x-more: 1\r\n"), (BEGINS, b"x" * 10), (b"", INTERIM)])
def test_a_head_without_measure(call, hasty, refused, playing, start, piece):
    """It comes as fast as it is taken: too many fields, one without an end, one interim answer after the other."""
    piece *= 1000

    def play(talk):
        talk.send(start)
        while True:
            talk.send(piece)

    upstream = playing(play)
    answer = asked(call(hasty), upstream)
    refused(answer, answer.status, {502: "upstream_unreachable", 504: "upstream_timeout"}[answer.status])
    assert upstream.gone.wait(PATIENCE)


GARBAGE = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "no words": b"\x00\xff\xfe\r\n\r\n",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status that is too small": b"HTTP/1.1 7 OK\r\n\r\n",
    "a line without an end": b"HTTP/1.1 200 " + b"x" * 200_000,
    "a length that is none": head("content-type: text/event-stream", "content-length: many"),
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x46",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_answer_that_is_not_http(ask, refused, playing, garbage):
    def play(talk):
        talk.send(GARBAGE[garbage])
        talk.reset() if garbage == "a TLS alert" else None

    refused(asked(ask, playing(play)), 502, "upstream_unreachable")


def test_an_upstream_that_closes_at_once(ask, refused, playing):
    def play(talk):
        talk.reset()

    refused(asked(ask, playing(play)), 502, "upstream_unreachable")


# --------------------------------------------------------------------------------------------------------------- bodies
@pytest.mark.parametrize("pause", [0.05, 0], ids=["slowly", "fast"])
def test_a_body_that_never_ends(call, hasty, refused, playing, pause):
    """Something comes all the time, so it is never silent; it has its time in all nevertheless."""

    def play(kind, talk):
        talk.send(head(f"content-type: {kind}", "transfer-encoding: chunked"))
        while True:
            talk.send(chunked(b": still here\n\n"))
            if not pause:
                continue
            talk.socket.settimeout(pause)
            try:
                if not talk.socket.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                talk.socket.settimeout(PATIENCE)

    waiting = []
    for kind, stream in itertools.product(("text/event-stream", "application/json"), (True, False)):
        upstream = playing(partial(play, kind))
        waiting.append((kind, stream, upstream, asked(call(hasty), upstream, stream=stream)))
    for kind, stream, upstream, answer in waiting:
        if stream and kind == "text/event-stream":
            assert [told["type"] for told in parse(answer.body)] == ["error", "response.failed"]
            assert parse(answer.body)[0]["code"] == "upstream_timeout"
        else:
            refused(answer, 504, "upstream_timeout")
        assert upstream.gone.wait(PATIENCE)


def test_an_event_of_fifty_megabytes(gateway, fake_upstream):
    delta = event("response.output_text.delta", sequence_number=1, delta="x" * (50 * 2**20))
    fake_upstream.script(Reply([FIRST, delta, OTHERS[-1]]))
    with connect(gateway) as client, client.makefile("rb") as stream:
        client.sendall(request(gateway, fake_upstream.url, stream=True, store=False))
        digest, last = hashlib.sha256(), b""
        for line in stream:
            if line.startswith(b"data: ") and len(line) > 2**20:
                digest.update(line)
            if (last := line) == DONE[:-1]:
                break
    assert last == DONE[:-1]
    assert digest.digest() == hashlib.sha256(delta.partition(b"\n")[2][:-1]).digest()


def test_an_event_that_is_too_large(ask, fake_upstream):
    """It is not kept until it ends: it may never."""
    endless = [b"data: ", *[b"x" * 2**20] * 80]
    fake_upstream.script(Reply([FIRST, *endless, Step.HOLD]))
    body = asked(ask, fake_upstream, stream=True).body
    error, failed = parse(body[len(FIRST) :])
    assert (error["code"], failed["type"]) == ("upstream_disconnected", "response.failed")
    assert len(body) < 10_000
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)


@pytest.mark.parametrize("end", [Step.CUT, Step.RESET])
def test_half_an_event(ask, fake_upstream, end):
    fake_upstream.script(Reply([FIRST, b"event: response.completed\ndata: {", Step.HOLD, end]))
    answer = asked(ask, fake_upstream, stream=True)
    answer.read_until(b"\n\n")
    fake_upstream.release.set()
    body = renamed(answer.body)
    assert body.startswith(FIRST) and b"response.completed" not in body
    assert [told["type"] for told in parse(body[len(FIRST) :])] == ["error", "response.failed"]


@pytest.mark.parametrize("stream", [True, False])
def test_bytes_that_are_not_utf_8(ask, fake_upstream, stream):
    """In a delta they pass as they came; they are the client's business."""
    delta = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\xff\xc3"}\n\n'
    fake_upstream.script(Reply([FIRST, delta, *OTHERS]))
    answer = asked(ask, fake_upstream, stream=stream)
    assert answer.status == 200
    assert not stream or (delta in answer.body and answer.body.endswith(DONE))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["text/html", "image/png", "application/octet-stream", "multipart/mixed; boundary=x"])
def test_a_wrong_content_type(ask, refused, fake_upstream, kind, stream):
    fake_upstream.script(Reply([b"\x89PNG\r\n\x1a\n" * 1000], headers=[("content-type", kind)]))
    assert kind.partition(";")[0] in refused(asked(ask, fake_upstream, stream=stream), 502, "upstream_disconnected")


def test_a_silent_stream_is_kept_alive(start_wired, call, fake_upstream):
    """For whoever stands between: a comment now and then, until the upstream goes on."""
    ask = call(start_wired(keepalive_interval="0.05"))
    fake_upstream.script(Reply([FIRST, Step.HOLD, *OTHERS]))
    answer = asked(ask, fake_upstream, stream=True)
    answer.read_until(b"\n\n:")
    fake_upstream.release.set()
    assert answer.body.endswith(DONE)
