"""Upstreams with TLS: records differ from packets, and a session ticket is no answer."""

import pytest

from floway_core.errors import UpstreamUnreachable
from floway_core.testing import RunningGateway, message_stream
from floway_core.testing.events import DONE, renamed

from ..support.certificates import server_context
from ..support.raw_upstream import NOBODY, PATIENCE, RawUpstream, chunked, head, new_client, read_whole
from ..support.stored_upstreams import add_upstreams

LARGEST_RECORD = 2**14
EVENTS = message_stream("Grüße 😀 " * 400, pieces=7)


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def tls(request, certificates):
    """The server's side of TLS. From version 1.3 it sends tickets before anything else."""
    return server_context(request.param, certificates[1])


@pytest.fixture(scope="module")
def gateway(plugin_folder, journal_file, certificates):
    """A gateway that trusts the authority."""
    environ = {"TEST_JOURNAL": str(journal_file), "REQUESTS_CA_BUNDLE": str(certificates[0])}
    settings = {"idle_timeout": str(PATIENCE), "first_byte_timeout": "60"}
    with RunningGateway(settings, plugin_folders=[plugin_folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        yield gateway


@pytest.fixture
def client(certificates, monkeypatch, tmp_path):
    """An ``HttpClient`` that trusts the authority."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates[0]))
    return new_client(tmp_path)


@pytest.mark.parametrize("size", [1, 8_000, 8_192, 12_000, LARGEST_RECORD - 100, 100_000])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_what_came_in_one_record_with_the_head_is_read_at_once(client, tls, size, framing):
    body = bytes(number % 251 for number in range(size))
    framed, end = (chunked(body), chunked(b"")) if framing == "chunked" else (body, b"")
    header = {"chunked": "transfer-encoding: chunked", "length": f"content-length: {size}", "close": "x-none: 1"}

    def play(talk):
        talk.request()
        talk.send(head(header[framing]) + framed)
        if framing == "close":
            talk.socket.unwrap()
        elif framing == "chunked":
            talk.send(end)
        talk.hold()

    with RawUpstream(play, tls=tls) as upstream:
        assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, b"{}")) == body


def test_many_small_records(client, tls):
    def play(talk):
        while body := talk.request():
            talk.send(*[bytes([byte]) for byte in head(f"content-length: {len(body)}") + body])

    with RawUpstream(play, tls=tls) as upstream:
        for number in range(3):
            body = b"%d, and some more bytes. " % number * 40
            assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, body)) == body
        assert upstream.connections == 1


CUTTINGS = {
    "at once": lambda stream: [stream],
    "the largest records": lambda stream: [
        stream[at : at + LARGEST_RECORD] for at in range(0, len(stream), LARGEST_RECORD)
    ],
    "small records": lambda stream: [stream[at : at + 97] for at in range(0, len(stream), 97)],
}


@pytest.mark.parametrize("cutting", CUTTINGS)
def test_a_stream_is_relayed_byte_for_byte(ask, tls, cutting):
    stream = b"".join(EVENTS)
    whole = head("content-type: text/event-stream", "transfer-encoding: chunked") + chunked(*EVENTS, b"")

    def play(talk):
        while talk.request():
            talk.send(*CUTTINGS[cutting](whole))

    with RawUpstream(play, tls=tls) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        for _ in range(2):
            assert renamed(ask.stream(store=False).body) == stream + DONE


def test_events_of_one_record_leave_before_the_next_record_is_there(ask, tls):
    *first, _ = message_stream("Grüße 😀 " * 140, pieces=7)
    record = head("content-type: text/event-stream", "transfer-encoding: chunked") + chunked(*first)
    assert 8_192 < len(record) < LARGEST_RECORD

    def play(talk):
        talk.request()
        talk.send(record)
        talk.hold()

    with RawUpstream(play, tls=tls) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.stream(store=False)
        relayed = answer.read_until(first[-1])
        answer.hang_up()
        assert renamed(relayed) == b"".join(first)
        assert upstream.gone.wait(PATIENCE)


@pytest.mark.parametrize("half", [b"", b"HTTP/1.1 200 OK\r\ncontent-ty"], ids=["nothing", "half a head"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_hang_up_before_the_head_is_noticed(ask, tls, half, stream):
    def play(talk):
        talk.send(half)
        talk.request()
        talk.hold()

    with RawUpstream(play, tls=tls) as upstream:
        ask.headers["x-test-upstream"] = upstream.url
        answer = ask.create(stream=stream)
        upstream.wait_for_request()
        assert ask.get("/v1/models").status == 200  # meanwhile the gateway gets to where it waits for the head
        answer.hang_up()
        assert upstream.gone.wait(PATIENCE)


def test_a_certificate_of_a_stranger_is_not_trusted(tls, tmp_path):
    with RawUpstream(lambda talk: talk.request(), tls=tls) as upstream:
        with pytest.raises(UpstreamUnreachable):
            new_client(tmp_path).stream(NOBODY, "POST", f"{upstream.url}/", {}, b"{}")
        assert upstream.bodies.empty()
