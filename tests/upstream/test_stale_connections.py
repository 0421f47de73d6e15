"""Pooled connections that upstreams close during a request: the request is sent again on a new connection."""

import pytest

from floway_core.testing import RunningGateway, message_stream
from floway_core.testing.events import DONE

from ..support.certificates import server_context
from ..support.raw_upstream import NOBODY, RawUpstream, head, new_client, read_whole
from ..support.stored_upstreams import add_upstreams

ANSWER = b"".join(message_stream())


def closes(talk):
    """End the connection as an upstream does that has had enough of it."""
    if hasattr(talk.socket, "unwrap"):
        talk.socket.unwrap()
    raise Gone


class Gone(OSError):
    """The script is over."""


ENDINGS = {"closed": closes, "reset": lambda talk: talk.reset()}


def swallowing(ending, served=1):
    """Serve ``served`` requests of each connection, read one more, and end the connection without a byte."""

    def play(talk):
        for _ in range(served):
            talk.request()
            talk.answer(ANSWER)
        talk.request()
        ending(talk)

    return play


@pytest.fixture
def serve(ask):
    """Starts an upstream for the client."""
    started = []

    def start(play, **options):
        started.append(RawUpstream(play, **options).__enter__())
        ask.headers["x-test-upstream"] = started[-1].url
        return started[-1]

    yield start
    for upstream in started:
        upstream.__exit__()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stream", [True, False])
def test_every_second_request_of_a_connection_is_swallowed(ask, serve, journal, logged, ending, stream):
    upstream = serve(swallowing(ENDINGS[ending]))
    for number in range(200 if ending == "closed" and not stream else 20):
        answer = ask.create(f"question {number}", stream=stream, store=False)
        assert answer.status == 200, (number, answer.body)
        assert answer.body.endswith(DONE) if stream else answer.json()["status"] == "completed"
        logged(answer)  # now the connection is back in the pool
        calls = [(call["plugin"], call["hook"]) for call in journal(answer.headers["x-request-id"])]
        assert calls.count(("wire", "prepare_responses_request")) == 1, "hooks do not see it"
    assert upstream.bodies.qsize() == 2 * (number + 1) - 1, "each but the first went out twice"


def test_connections_that_are_closed_as_soon_as_they_are_idle(ask, serve):
    """The gateway sees the end of some in time, and of others not."""

    def play(talk):
        talk.request()
        talk.answer(ANSWER)

    serve(play)
    assert {ask.create(store=False).status for _ in range(200)} == {200}


def test_all_pooled_connections_are_stale(ask, serve):
    """Only a fresh one can be trusted: the next in the pool may swallow the request as well."""

    def play(talk):
        talk.request()
        if talk.number <= 4:
            talk.wait()
        talk.answer(ANSWER)
        talk.request()
        closes(talk)

    upstream = serve(play)
    begun = [ask.create(store=False) for _ in range(4)]
    for _ in begun:
        upstream.wait_for_request()
    for _ in begun:
        upstream.go_on()
    assert [answer.status for answer in begun] == [200] * 4 and all(answer.body for answer in begun)
    assert upstream.connections == 4
    assert ask.create(store=False).status == 200
    assert upstream.connections == 5


# ------------------------------------------------------------------------------------------------------- only then
def test_a_fresh_connection_that_swallows_it_too_is_the_end(ask, serve, refused):
    def play(talk):
        talk.request()
        if talk.number == 1:
            talk.answer(ANSWER)
            talk.request()
        closes(talk)

    upstream = serve(play)
    assert ask.create(store=False).status == 200
    refused(ask.create(store=False), 502, "upstream_unreachable")
    assert (upstream.bodies.qsize(), upstream.connections) == (3, 2)


def test_a_new_connection_is_not_tried_again(ask, serve, refused):
    upstream = serve(swallowing(closes, served=0))
    refused(ask.create(store=False), 502, "upstream_unreachable")
    assert upstream.bodies.qsize() == 1


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\n", head(status="100 Continue")])
def test_an_answer_that_has_begun_is_not_asked_for_again(ask, serve, refused, begun):
    def play(talk):
        talk.request()
        talk.answer(ANSWER)
        talk.request()
        talk.send(begun)
        closes(talk)

    upstream = serve(play)
    assert ask.create(store=False).status == 200
    refused(ask.create(store=False), 502, "upstream_unreachable")
    assert upstream.bodies.qsize() == 2


def test_silence_is_not_asked_again(start_wired, call, refused):
    def play(talk):
        talk.request()
        talk.answer(ANSWER)
        talk.request()
        talk.hold()

    with RawUpstream(play) as upstream:
        caller = call(start_wired(first_byte_timeout="0.5"))
        caller.headers["x-test-upstream"] = upstream.url
        assert caller.create(store=False).status == 200
        refused(caller.create(store=False), 504, "upstream_timeout")
        assert upstream.bodies.qsize() == 2


# -------------------------------------------------------------------------------------------------------------- TLS
@pytest.fixture(scope="module")
def trusting(plugin_folder, journal_file, certificates):
    """A gateway that trusts the authority of the test."""
    environ = {"TEST_JOURNAL": str(journal_file), "REQUESTS_CA_BUNDLE": str(certificates[0])}
    with RunningGateway(plugin_folders=[plugin_folder], environ=environ) as gateway:
        add_upstreams(gateway, first="wire")
        yield gateway


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_the_same_over_tls(call, trusting, certificates, ending, version):
    with RawUpstream(swallowing(ENDINGS[ending]), tls=server_context(version, certificates[1])) as upstream:
        caller = call(trusting)
        caller.headers["x-test-upstream"] = upstream.url
        assert [caller.create(store=False).status for _ in range(20)] == [200] * 20
        assert upstream.bodies.qsize() == 39


# ------------------------------------------------------------------------------------- requests that are not clients'
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_floway_fetches_for_itself_is_sent_once_on_a_connection_of_its_own(tmp_path, method):
    """A refresh token works once: what an old connection swallowed could not be sent again."""
    client = new_client(tmp_path)
    with RawUpstream(swallowing(closes)) as upstream:
        assert read_whole(client.stream(NOBODY, "POST", f"{upstream.url}/", {}, b"{}")) == ANSWER
        for _ in range(5):
            body = b"{}" if method == "POST" else None
            assert client.fetch(method, f"{upstream.url}/", {}, body).content == ANSWER
        assert (upstream.bodies.qsize(), upstream.connections) == (6, 6)
