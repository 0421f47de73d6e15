"""Stopping: running requests may finish, others get an error, and no connection closes in the middle of a request."""

import http.client
import os
import signal
from pathlib import Path

import pytest

from floway_core.testing import Reply, Step, message_stream
from floway_core.testing.events import DONE, parse

from ..support.stored_upstreams import add_upstreams
from .raw_client import connect, is_refused, read_until, wait_for

pytestmark = pytest.mark.soak  # long: many processes, or waits

FIRST, *OTHERS = message_stream()
HELD = Reply([FIRST, Step.HOLD, *OTHERS])


def begun(ask, **fields):
    answer = ask.stream(**fields)
    answer.read_until(b"\n\n")
    return answer


def test_a_running_stream_may_finish(start, call, fake_upstream):
    gateway = start(graceful_timeout="20", workers="2")
    ask = call(gateway)
    fake_upstream.script(*[HELD] * 8)
    running = [begun(ask) for _ in range(8)]
    gateway.process.send_signal(signal.SIGTERM)
    wait_for(lambda: is_refused(gateway))
    fake_upstream.release.set()
    assert all(answer.body.endswith(DONE) for answer in running)
    assert gateway.process.wait(60) == 0
    assert "did not end in time" not in gateway.log


def test_what_does_not_finish_in_time_is_told(start, call, refused, fake_upstream):
    """A stream gets both events of a failure, what has no head yet an answer with status 503."""
    gateway = start(graceful_timeout="2")
    add_upstreams(gateway, second="wire")  # which is not tried then
    ask = call(gateway)
    fake_upstream.script(
        HELD,
        HELD,
        Reply([b'{"id":', Step.HOLD], headers=[("content-type", "application/json")]),
        Reply(before=[Step.HOLD]),
        Reply([b'{"error":', Step.HOLD], 500, [("content-type", "application/json")]),
    )
    stream = begun(ask)
    waiting = []
    for number in range(2, 6):
        waiting.append(ask.create(stream=number == 4))
        fake_upstream.wait_for_request(number)
    gateway.process.send_signal(signal.SIGTERM)
    *_, error, failed = parse(stream.body)
    assert (error["type"], error["code"], failed["type"]) == ("error", "server_shutting_down", "response.failed")
    assert failed["response"]["error"]["code"] == "server_shutting_down"
    assert [told["sequence_number"] for told in (error, failed)] == [1, 2]
    for answer in waiting:
        assert answer.headers["retry-after"] == "1"
        refused(answer, 503, "server_shutting_down")
    assert len(fake_upstream.requests) == 5
    assert all(request.peer_gone.wait(60) for request in fake_upstream.requests)
    assert gateway.process.wait(60) == 0
    assert gateway.log.count("server_shutting_down") == 5
    assert "did not end in time" not in gateway.log


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGQUIT])
def test_an_impatient_order_ends_it_now(start, call, fake_upstream, order):
    """Streams are told all the same. The grace time is longer than this test is patient."""
    gateway = start(graceful_timeout="600")
    fake_upstream.script(HELD)
    stream, idle = begun(call(gateway)), connect(gateway)
    os.killpg(gateway.process.pid, order)  # as a terminal does: to all processes
    assert parse(stream.body)[-1]["response"]["error"]["code"] == "server_shutting_down"
    assert gateway.process.wait(60) == 0
    idle.close()


def test_an_impatient_order_after_a_patient_one(start, call, fake_upstream):
    gateway = start(graceful_timeout="600")
    fake_upstream.script(HELD)
    stream = begun(call(gateway))
    gateway.process.send_signal(signal.SIGTERM)
    wait_for(lambda: is_refused(gateway))
    gateway.process.send_signal(signal.SIGINT)
    assert parse(stream.body)[-1]["response"]["error"]["code"] == "server_shutting_down"
    assert gateway.process.wait(60) == 0


def test_a_connection_in_use_is_served_once_more(start, call, fake_upstream):
    """Its client cannot know of the stop before it asks again; the answer tells it."""
    gateway = start(graceful_timeout="20")
    fake_upstream.script(HELD)
    running = begun(call(gateway))
    with connect(gateway) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        assert b"Connection: keep-alive" in read_until(client, b'"ok"')
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: is_refused(gateway))
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        assert b"Connection: close" in read_until(client, b'"ok"')
        assert client.recv(1) == b""
    fake_upstream.release.set()
    assert running.body.endswith(DONE)
    assert gateway.process.wait(60) == 0


def test_idle_connections_do_not_delay_the_end(start):
    """The grace time is longer than this test is patient."""
    gateway = start(graceful_timeout="600")
    idle = [connect(gateway) for _ in range(5)]
    for client in idle[1:]:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        read_until(client, b'"ok"')
    assert gateway.stop() == 0
    for client in idle:
        client.close()


def test_a_client_that_does_not_read_cannot_prevent_the_end(start, call, fake_upstream):
    gateway = start(graceful_timeout="2", client_timeout="600")
    first, second, third, delta, *_ = message_stream("x" * 60_000, pieces=2)
    fake_upstream.script(Reply([first, second, third, *[delta] * 2000]))
    answer = begun(call(gateway))
    assert gateway.stop() == 0
    # The system may have had room for the last words.
    assert "1 requests did not end in time" in gateway.log or "error=server_shutting_down" in gateway.log
    answer.hang_up()


# ------------------------------------------------------------------------------------------------------------- killing
def test_a_killed_worker_takes_nobody_along(start, call, fake_upstream):
    """Its clients see that their stream is broken; those of the other worker go on, and it is replaced."""
    gateway = start(workers="2")
    ask = call(gateway)
    fake_upstream.script(*[HELD] * 16)
    victim, survivor = gateway.workers
    running = []
    for other in (victim, survivor):  # the system would deal connections out as it likes
        os.kill(other, signal.SIGSTOP)
        running += [begun(ask) for _ in range(8)]
        os.kill(other, signal.SIGCONT)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(gateway.workers) == 2 and victim not in gateway.workers)
    assert survivor in gateway.workers
    fake_upstream.release.set()
    broken = 0
    for answer in running:
        try:
            assert answer.body.endswith(DONE)
        except (ConnectionError, http.client.IncompleteRead):
            broken += 1
    assert broken == 8
    fake_upstream.script(*[Reply(message_stream())] * 8)
    assert [ask.create().status for _ in range(8)] == [200] * 8


def test_after_a_killed_server_the_next_one_starts_at_once(start, call, fake_upstream):
    """The workers of the first one notice, leave it the address, and let their streams finish."""
    gateway = start(graceful_timeout="60", workers="2")
    ask = call(gateway)
    fake_upstream.script(*[HELD] * 8)
    running, orphans = [begun(ask) for _ in range(8)], gateway.workers
    gateway.process.kill()  # the arbiter alone
    gateway.process.wait(60)
    gateway.restart()
    assert gateway.log.count("The parent process is gone") == len(orphans) == 2
    fake_upstream.release.set()
    fake_upstream.script(*[Reply(message_stream())] * 8)
    assert [ask.create().status for _ in range(8)] == [200] * 8
    assert all(answer.body.endswith(DONE) for answer in running)
    wait_for(lambda: not any(is_running(pid) for pid in orphans))


def test_workers_of_a_killed_server_end_their_streams_in_time(start, call, fake_upstream):
    gateway = start(graceful_timeout="2", workers="2")
    ask = call(gateway)
    fake_upstream.script(*[HELD] * 8)
    running, orphans = [begun(ask) for _ in range(8)], gateway.workers
    gateway.process.kill()
    gateway.process.wait(60)
    wait_for(lambda: is_refused(gateway))
    for answer in running:
        assert parse(answer.body)[-1]["response"]["error"]["code"] == "server_shutting_down"
    wait_for(lambda: not any(is_running(pid) for pid in orphans))
    assert all(request.peer_gone.wait(60) for request in fake_upstream.requests)
    assert "did not end in time" not in gateway.log


def is_running(pid):
    """Whether a process has not ended. One that has may stay in the list of processes until somebody asks for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
