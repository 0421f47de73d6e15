"""A client that disconnects ends its upstream request at any stage; and which connections are reused."""

import pytest

from floway_core.testing import Reply, Step, message_stream

PATIENCE = 60


@pytest.fixture
def serves_the_next(ask, fake_upstream):
    """Asserts that the gateway still answers."""

    def check():
        fake_upstream.release.set()
        fake_upstream.script(Reply(message_stream("next")))
        assert ask.create().json()["output"][0]["content"][0]["text"] == "next"

    return check


def test_between_two_pieces_of_a_stream(ask, fake_upstream, serves_the_next):
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    answer = ask.stream()
    answer.read_until(b"\n\n")
    assert not fake_upstream.requests[0].peer_gone.is_set()
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
    serves_the_next()


def test_inside_of_an_event(ask, fake_upstream, serves_the_next):
    first, second, *_ = message_stream()
    fake_upstream.script(Reply([first + second[:9], Step.HOLD]))
    answer = ask.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
    serves_the_next()


@pytest.mark.parametrize("stream", [True, False])
def test_before_the_upstream_sent_its_head(ask, fake_upstream, serves_the_next, stream):
    fake_upstream.script(Reply(message_stream(), before=[Step.HOLD]))
    answer = ask.create(stream=stream)
    fake_upstream.wait_for_request()
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
    serves_the_next()


@pytest.mark.parametrize("chunks", [[], message_stream()[:3]], ids=["after the head", "after some events"])
def test_while_the_answer_is_collected(ask, fake_upstream, serves_the_next, chunks):
    fake_upstream.script(Reply([*chunks, Step.HOLD]))
    answer = ask.create()
    fake_upstream.wait_for_request()
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
    serves_the_next()


@pytest.mark.parametrize("stream", [True, False])
def test_while_json_or_a_refusal_arrives(ask, fake_upstream, serves_the_next, stream):
    kind = [("content-type", "application/json")]
    fake_upstream.script(Reply([b'{"id":', Step.HOLD], 200, kind), Reply([b'{"error":', Step.HOLD], 500, kind))
    for number in (1, 2):
        answer = ask.create(stream=stream)
        fake_upstream.wait_for_request(number)
        answer.hang_up()
        assert fake_upstream.requests[number - 1].peer_gone.wait(PATIENCE)
    serves_the_next()


def test_while_the_upstream_keeps_sending(ask, fake_upstream, serves_the_next):
    first, second, third, delta, *_ = message_stream("x" * 30_000, pieces=2)
    fake_upstream.script(Reply([first, second, third, *[delta] * 5000]))
    answer = ask.stream()
    answer.read_until(b"\n\n")
    answer.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(PATIENCE)
    serves_the_next()


def test_many_at_once(ask, fake_upstream, serves_the_next):
    first, *_ = message_stream()
    fake_upstream.script(*[Reply([first, Step.HOLD])] * 20)
    answers = [ask.stream() for _ in range(20)]
    for answer in answers:
        answer.read_until(b"\n\n")
    for answer in answers:
        answer.hang_up()
    assert all(request.peer_gone.wait(PATIENCE) for request in fake_upstream.requests)
    serves_the_next()


def test_how_an_answer_ended_stands_in_the_log(ask, gateway, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    answer = ask.create()
    assert answer.status == 200
    (line,) = gateway.wait_for_log(answer.headers["x-request-id"])
    parts = ("POST /v1/responses 200 ", "key=test", "model=model-1", "upstream=first", "attempts=1 dispatches=1 ")
    assert all(part in line for part in parts)
    assert line.endswith("outcome=completed error=- tokens=7/3/5/0 cost=unknown")


# ---------------------------------------------------------------------------------------------- upstream connections
@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("stream", [True, False])
def test_after_a_clean_end_the_connection_is_used_again(ask, fake_upstream, logged, framing, stream):
    fake_upstream.script(*[Reply(message_stream(), framing=framing)] * 3)
    for _ in range(3):
        answer = ask.create(stream=stream)
        assert b"completed" in answer.body
        logged(answer)
    assert [request.connection for request in fake_upstream.requests] == [1, 1, 1]


def test_after_a_refusal_the_connection_is_used_again(ask, fake_upstream):
    refusal = Reply([b'{"error":{}}'], 429, [("content-type", "application/json")])
    fake_upstream.script(refusal, refusal, Reply(message_stream()))
    assert [ask.create().status, ask.stream().status, ask.create().status] == [429, 429, 200]
    assert fake_upstream.connections == 1


@pytest.mark.parametrize("chunks", [[*message_stream()[:3], Step.CUT], [*message_stream()[:3], Step.RESET]])
@pytest.mark.parametrize("stream", [True, False])
def test_after_a_broken_end_it_is_not(ask, fake_upstream, logged, chunks, stream):
    fake_upstream.script(Reply(chunks), Reply(message_stream()))
    answer = ask.create(stream=stream)
    assert b"upstream_disconnected" in answer.body
    logged(answer)
    assert b"completed" in ask.create(stream=stream).body
    assert [request.connection for request in fake_upstream.requests] == [1, 2]


def test_after_an_end_with_bytes_too_many_it_is_not(ask, fake_upstream):
    wrong = [("content-type", "text/event-stream"), ("content-length", str(len(b"".join(message_stream()))))]
    all_at_once = b"".join([*message_stream(), b"more"])
    fake_upstream.script(Reply([all_at_once], headers=wrong, framing="length"), Reply(message_stream()))
    assert b"completed" in ask.create().body
    assert b"completed" in ask.create().body
    assert fake_upstream.connections == 2


def test_an_upstream_that_says_close_is_believed(ask, fake_upstream):
    fake_upstream.script(*[Reply(message_stream(), framing="close")] * 2)
    assert [ask.create().status, ask.create().status] == [200, 200]
    assert fake_upstream.connections == 2


def test_a_connection_that_the_upstream_has_closed_since_is_not_used(ask, fake_upstream):
    fake_upstream.script(Reply([*message_stream(), Step.CUT], framing="length"), Reply(message_stream()))
    assert ask.create().status == 200
    assert fake_upstream.requests[0].over.wait(PATIENCE)
    assert ask.create().status == 200
    assert [request.connection for request in fake_upstream.requests] == [1, 2]
