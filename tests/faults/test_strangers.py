"""Many slow clients without a key do not affect clients with a key."""

import contextlib
import json
import os
import resource
import select
import socket

import pytest

from floway_core.server.command import SPARE_THREADS
from floway_core.server.connection_loop import MAX_RECEIVED_BYTES
from floway_core.testing import Reply, Step, message_stream
from floway_core.testing.events import DONE

from ..support.readiness import is_readable
from .raw_client import connect, read_until, request, wait_for

HEAD = b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer nobody\r\n"
SLOW = 1200
"""More connections than a worker has threads, and fewer than it holds."""


@pytest.fixture
def crowd():
    """Opens connections by the number; they stay open until the test has ended."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual[1], usual[1]))
    opened = []

    def gather(gateway, count, start=b"", **options):
        clients = [connect(gateway, **options) for _ in range(count)]
        opened.extend(clients)
        for client in clients:
            client.sendall(start)
        return clients

    yield gather
    for client in opened:
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


@pytest.fixture
def one_thread_each(start):
    """A gateway with fewer threads than there are slow clients, of which one address may have any number."""
    assert SPARE_THREADS + 200 < SLOW
    return start(threads="200", max_idle_connections="0")


def closed(clients):
    """Those of ``clients`` that the gateway has closed or answered."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN)
    return len(poll.poll(0))


def serves(ask, fake_upstream):
    """Whether the gateway answers requests of all kinds, on new connections."""
    fake_upstream.script(Reply(message_stream()), Reply(message_stream()))
    assert ask.stream(store=False).body.endswith(DONE)
    assert ask.create().status == 200
    return [ask.get(path).status for path in ("/healthz", "/readyz", "/v1/models")] == [200] * 3


@pytest.mark.parametrize(
    "start_of_request",
    [b"G", b"GET /healthz HTTP/1.1\r\nhost: ", HEAD + b"content-length: 1000\r\n\r\n{"],
    ids=["method", "head", "small body"],
)
def test_slow_requests_take_no_threads(one_thread_each, call, fake_upstream, crowd, start_of_request):
    slow = crowd(one_thread_each, SLOW, start_of_request)
    assert serves(call(one_thread_each), fake_upstream)
    assert closed(slow) == 0
    assert "stalled" not in one_thread_each.log


def test_bytes_that_trickle_take_no_threads(start, call, fake_upstream, crowd):
    gateway = start(threads="8")
    ask = call(gateway)
    slow = crowd(gateway, 200)
    for byte in b"GET /hea":
        for client in slow:
            client.sendall(bytes([byte]))
        assert serves(ask, fake_upstream)
    assert closed(slow) == 0


def test_large_bodies_of_strangers_are_not_waited_for(start, call, fake_upstream, crowd):
    """They are refused by their heads, and the connection is closed: nobody waits for the rest."""
    gateway = start(threads="300", max_idle_connections="0")
    strangers = crowd(gateway, 300, HEAD + b"content-length: 100000\r\n\r\n")
    for client in strangers:
        answer = b"".join(iter(lambda client=client: client.recv(2**16), b""))
        assert answer.startswith(b"HTTP/1.1 401 ") and b"connection: close" in answer.lower()
        client.sendall(b"a")
    assert serves(call(gateway), fake_upstream)


def test_whole_requests_of_strangers_take_no_places(start, call, fake_upstream, crowd):
    """Many ask at the same time, again and again; the one client with a key always finds a place."""
    gateway = start(threads="2")  # one for a request whose answer is just ending
    ask = call(gateway)
    body = b'{"model": "model-1", "input": "Hi"}'
    one = b"%bcontent-length: %d\r\n\r\n%b" % (HEAD.replace(b"nobody", b"sk-floway-" + b"a" * 43), len(body), body)
    strangers = crowd(gateway, 100)
    fake_upstream.script(*[Reply(message_stream())] * 20)
    for _ in range(20):
        for client in strangers:
            client.sendall(one)
        assert ask.create().status == 200
        for client in strangers:
            assert b" 401 " in read_until(client, b"}}")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_stranger_with_a_body_that_nobody_reads_may_go_on(gateway, chunked):
    """The connection stays open if the body is there already; of one in chunks that is not known."""
    body = b"3\r\nabc\r\n0\r\n\r\n" if chunked else b"abc"
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: 3"
    with connect(gateway) as client:
        client.sendall(HEAD + framing + b"\r\n\r\n" + body)
        answer = read_until(client, b"}")
        assert (b"connection: close" in answer.lower()) == chunked
        if not chunked:
            client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
            read_until(client, b'"ok"')


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_head_has_one_deadline_and_a_body_may_pause(start, call, fake_upstream, part):
    """Each byte comes in time, and the head as a whole does not."""
    gateway = start(client_timeout="0.5")
    fake_upstream.script(Reply(message_stream()))
    whole = request(gateway, fake_upstream.url, store=False)
    split = whole.index(b"\r\n\r\n") + 4
    with connect(gateway) as client:
        client.sendall(whole[:split] if part == "body" else b"G")
        sent, answer = split, b""
        with contextlib.suppress(ConnectionError):
            while sent < len(whole):
                if is_readable(client, 0.1) and not (answer := client.recv(2**16)):
                    break
                client.sendall(whole[sent : sent + 5] if part == "body" else b"a")
                sent += 5
            answer = client.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 200 ") if part == "body" else answer == b""
    assert ("stalled" in gateway.log) == (part == "head")


# ----------------------------------------------------------------------------------------------- too many connections
def test_the_connection_that_has_waited_longest_is_dropped_first(start, call, fake_upstream, crowd):
    gateway = start(threads="2", max_idle_connections="0")  # one for a request whose answer is just ending
    with connect(gateway) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n\r\n" % gateway.key.encode())
        read_until(client, b"}")
        slow = crowd(gateway, SLOW, b"G")
        assert serves(call(gateway), fake_upstream)
        dropped = closed(slow)
        assert 0 < dropped < SLOW and closed(slow[:dropped]) == dropped
        assert closed([client]) == 0  # it has waited longer than all others, but with a key


def test_an_address_has_only_so_many_connections_without_a_key(start, call, fake_upstream, crowd):
    gateway = start(max_idle_connections="20")
    ask = call(gateway)
    with connect(gateway) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n\r\n" % gateway.key.encode())
        read_until(client, b"}")
        first = crowd(gateway, 20, b"G")
        second = crowd(gateway, 20, b"G")
        for dropped in first:
            assert dropped.recv(1) == b""
        assert serves(ask, fake_upstream)
        assert closed([client]) == 0
        assert closed(second) < 10  # one for each new connection of the client with a key


PART = 60_000
"""Bytes of a body that is waited for before a thread gets the request."""


def test_parts_of_requests_have_a_common_limit(start, call, fake_upstream, crowd):
    """Beyond it, the connections without a key that have waited longest for the rest are closed, and nobody else."""
    gateway = start(max_idle_connections="0")
    ask = call(gateway)
    begun = HEAD + b"content-length: %d\r\n\r\n" % (PART + 1) + b"a" * PART
    count = MAX_RECEIVED_BYTES // len(begun) + 100
    with connect(gateway) as client:
        models = b"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n\r\n" % gateway.key.encode()
        client.sendall(models)
        read_until(client, b"}")
        client.sendall(models[:-2])
        slow = crowd(gateway, count, begun)
        wait_for(lambda: closed(slow) == 100)
        assert closed(slow[:100]) == 100 and closed([client]) == 0
        assert serves(ask, fake_upstream)
        client.sendall(b"\r\n")
        read_until(client, b"}")


# ------------------------------------------------------------------------------------------- answers that nobody reads
PIPELINED = b"GET /openapi.json HTTP/1.1\r\nhost: gateway\r\n\r\n" * 120


def test_answers_that_nobody_reads_take_no_threads(start, call, fake_upstream, crowd):
    gateway = start(threads="8")
    crowd(gateway, 8, PIPELINED, receive_buffer=2**14)
    ask = call(gateway)
    gateway.wait_for_log("GET /openapi.json 200")
    made = []
    while len(made) < 10 or made[-1] != made[-10]:  # until all of them have more than the system takes for them
        made.append(gateway.log.count("GET /openapi.json 200") if ask.get("/healthz").status == 200 else None)
    assert made[-1] < 8 * 120
    wait_for(lambda: ask.get("/v1/models").status == 200)


def test_answers_that_are_read_late_are_whole(start, call, crowd):
    gateway = start()
    answer = call(gateway).get("/openapi.json").body
    (client,) = crowd(gateway, 1, PIPELINED, receive_buffer=2**14)
    gateway.wait_for_log("GET /openapi.json 200")
    received = bytearray()
    while len(received) < 120 * len(answer) or not received.endswith(answer):
        piece = client.recv(2**20)
        assert piece
        received += piece
    assert received.count(answer) == 120


def test_a_response_in_one_piece_that_is_read_slowly_takes_no_thread(start, call, fake_upstream):
    gateway = start(threads="1")
    ask = call(gateway)
    text = "x" * 8_000_000
    fake_upstream.script(Reply(message_stream(text)))
    with connect(gateway, receive_buffer=2**14) as client:
        client.sendall(request(gateway, fake_upstream.url, store=False))
        head = read_until(client, b"\r\n\r\n")
        wait_for(lambda: ask.get("/v1/models").status == 200)  # the only place for a request is free again
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)  # so that the rest comes well before it is idle
        head, _, body = head.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += client.recv(2**20)
        assert json.loads(body)["output"][0]["content"][0]["text"] == text
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        read_until(client, b'"ok"')


def test_a_client_that_stops_reading_a_response_is_given_up(start, fake_upstream, crowd):
    gateway = start(client_timeout="1")
    (deaf,) = crowd(gateway, 1, b"GET /openapi.json HTTP/1.1\r\nhost: g\r\n\r\n" * 200, receive_buffer=2**14)
    gateway.wait_for_log("stalled for 1 seconds: 127.0.0.1")
    with pytest.raises(ConnectionResetError):
        while deaf.recv(2**20):
            pass


# -------------------------------------------------------------------------------------------------------- descriptors
def test_strangers_leave_descriptors_to_those_with_a_key(start, call, fake_upstream, crowd):
    gateway = start(max_idle_connections="0")
    ask = call(gateway)
    first, *others = message_stream()
    fake_upstream.script(Reply([first, Step.HOLD, *others]))
    running = ask.stream(store=False)
    running.read_until(b"\n\n")
    with connect(gateway) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %s\r\n\r\n" % gateway.key.encode())
        read_until(client, b"}")
        (worker,) = gateway.workers
        usual = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{worker}/fd")) + 60, usual[1]))
        slow = crowd(gateway, 150, b"G")
        assert serves(ask, fake_upstream)  # each request needs two more
        assert closed(slow) > 90 and closed([client]) == 0
        fake_upstream.release.set()
        assert running.body.endswith(DONE)
    assert "could not be accepted" not in gateway.log


def test_who_gets_no_descriptor_takes_that_of_a_stranger(start, crowd):
    gateway = start()
    slow = crowd(gateway, 5, b"G")
    for client in slow:
        client.sendall(b"E")
    with connect(gateway) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        read_until(client, b'"ok"')  # the others have been accepted before
    (worker,) = gateway.workers
    usual = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{worker}/fd")), usual[1]))
    with connect(gateway) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n")
        read_until(client, b'"ok"')
    assert slow[0].recv(1) == b""
    assert "could not be accepted" not in gateway.log
