"""Requests above the limit of a worker are refused at once; those that it accepts are served completely."""

import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.server.command import IDLE_CONNECTIONS, SPARE_THREADS
from floway_core.testing import ApiClient, Reply, Step, event, message_stream
from floway_core.testing.events import DONE, renamed

from .raw_client import connect, read_until, request, wait_for

LIMIT = 4


def test_what_is_too_much_is_refused_at_once(start, call, refused, fake_upstream):
    gateway = start(threads=str(LIMIT))
    ask = call(gateway)
    first, *others = message_stream()
    fake_upstream.script(*[Reply([first, Step.HOLD, *others])] * LIMIT)
    running = [ask.stream(store=False) for _ in range(LIMIT)]
    for answer in running:
        answer.read_until(b"\n\n")
    for stream in (True, False) * 20:
        turned_away = ask.create("x" * 100_000, stream=stream)
        assert turned_away.headers["retry-after"] == "1"
        refused(turned_away, 503, "server_overloaded")
    assert (ask.get("/healthz").status, ask.get("/readyz").status) == (200, 200)
    stranger = ApiClient(gateway.url, "sk-floway-" + "a" * 43)
    refused(stranger.create(), 401, "invalid_api_key")  # who asks is found out first
    refused(ask.get("/v1/models"), 503, "server_overloaded")
    assert len(fake_upstream.requests) == LIMIT
    fake_upstream.release.set()
    assert all(answer.body.endswith(DONE) for answer in running)
    assert gateway.log.count("error=server_overloaded") == 41
    fake_upstream.release.clear()
    fake_upstream.script(*[Reply([first, Step.HOLD, *others])] * LIMIT)
    running = []

    def come_again():
        answer = ask.stream(store=False)
        if answer.status == 200:
            running.append(answer)
        return len(running) == LIMIT

    wait_for(come_again)  # a place is free a moment after the last byte
    fake_upstream.release.set()
    assert all(answer.body.endswith(DONE) for answer in running)


def test_a_burst_is_answered(start, call, fake_upstream):
    """As many as there are places get one, and all others a refusal, while those are still being served."""
    ask = call(start(threads=str(LIMIT)))
    first, *others = message_stream()
    fake_upstream.script(*[Reply([first, Step.HOLD, *others])] * LIMIT)
    gate = threading.Barrier(50, timeout=60)

    def come(_):
        gate.wait()
        answer = ask.stream(store=False)
        return answer, answer.status

    with ThreadPoolExecutor(50) as pool:
        came = list(pool.map(come, range(50)))
    assert sorted(status for _, status in came) == [200] * LIMIT + [503] * (50 - LIMIT)
    fake_upstream.release.set()
    assert all(answer.body.endswith(DONE) for answer, status in came if status == 200)


@pytest.fixture
def many_descriptors():
    """This process may open as many files as the system lets it."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual[1], usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n"], ids=["nothing", "enough"])
def test_connections_without_a_request_take_nobodys_place(start, call, fake_upstream, many_descriptors, said):
    """They are more than a worker keeps; those that were idle longest make room for others."""
    gateway = start(threads="1", client_timeout="600")
    idle = []
    for _ in range(IDLE_CONNECTIONS + SPARE_THREADS + 100):
        idle.append(connect(gateway))
        if said:
            idle[-1].settimeout(8)  # less than connections are kept
            idle[-1].sendall(said)
            read_until(idle[-1], b'"ok"')
    with connect(gateway) as client:
        fake_upstream.script(Reply(message_stream()))
        client.settimeout(8)
        client.sendall(request(gateway, fake_upstream.url, stream=True))
        read_until(client, DONE)
    for client in idle:
        client.close()


def test_running_out_of_descriptors_kills_nobody(start, call, fake_upstream):
    """Who comes then waits, and those that are there are served on."""
    gateway = start()
    ask = call(gateway)
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    running = ask.stream(store=False)
    running.read_until(b"\n\n")
    (worker,) = gateway.workers
    usual = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{worker}/fd")), usual[1]))
    waiting = [connect(gateway) for _ in range(5)]
    for client in waiting:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
    wait_for(lambda: "could not be accepted: [Errno 24]" in gateway.log)
    fake_upstream.release.set()
    assert running.body.endswith(DONE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, usual)
    for client in waiting:
        read_until(client, b'"ok"')
        client.close()
    assert gateway.workers == [worker]


def test_as_many_descriptors_as_it_needs_are_allowed(start):
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = len(os.listdir("/proc/self/fd")) + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, usual[1]))  # for the children, too
    try:
        gateway = start(threads="500")
        (worker,) = gateway.workers
        assert low < resource.prlimit(worker, resource.RLIMIT_NOFILE)[0] > 2000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


STREAMS = 60
EVENTS = 40


def test_many_slow_streams_at_once_lose_nothing(start, call, fake_upstream):
    """Each gets all its events in their order, and nobody else's, though they all come bit by bit at the same time."""
    ask = call(start(workers="2"))
    first, *_, last = message_stream(empty_output=True)
    fake_upstream.script(
        *[
            Reply([first, Step.HOLD, *(_delta(stream, number) for number in range(EVENTS)), last])
            for stream in range(STREAMS)
        ]
    )
    answers = [ask.stream(store=False) for _ in range(STREAMS)]
    for answer in answers:
        answer.read_until(b"\n\n")
    fake_upstream.release.set()
    with ThreadPoolExecutor(STREAMS) as pool:
        bodies = list(pool.map(lambda answer: renamed(answer.body), answers))
    expected = [
        b"".join([first, *(_delta(stream, number) for number in range(EVENTS)), last, DONE])
        for stream in range(STREAMS)
    ]
    assert sorted(bodies) == sorted(renamed(body) for body in expected)


def _delta(stream, number):
    return event("response.audio.delta", sequence_number=number + 1, delta=f"{stream}.{number} " + "x" * 500)
