"""WebSockets whose client, gateway or upstream disappears, stalls or misbehaves; and the cost of idle ones."""

import contextlib
import json
import os
import signal
import socket
import struct
from pathlib import Path

import pytest
from websockets.frames import Frame, Opcode

from floway_core.testing import ApiClient, Reply, Step, message_stream

from ..support.websocket_client import UPGRADE
from . import raw_client
from .raw_client import is_refused, wait_for

FIRST, *OTHERS = message_stream()
HELD = Reply([FIRST, Step.HOLD, *OTHERS])


@pytest.fixture(scope="module")
def impatient(start_wired):
    """A gateway with short timeouts and little memory."""
    return start_wired(
        client_timeout="0.3", keepalive_interval="0.1", body_memory_bytes=str(2**20), max_body_bytes=str(2**20)
    )


def threads_of(gateway):
    (worker,) = gateway.workers
    return len(os.listdir(f"/proc/{worker}/task"))


def open_raw(gateway, upstream, **options):
    """A WebSocket without a library, whose answer to the upgrade has been read."""
    lines = ["GET /v1/responses HTTP/1.1", "host: gateway", f"authorization: Bearer {gateway.key}"]
    lines += [f"x-test-upstream: {upstream.url}", *(f"{name}: {value}" for name, value in UPGRADE.items())]
    connection = raw_client.connect(gateway, **options)
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    raw_client.read_until(connection, b"\r\n\r\n")
    return connection


def create(**fields):
    message = {"type": "response.create", "model": "model-1", "input": "Hi", **fields}
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


# ---------------------------------------------------------------------------------------------------------------- cost
def test_an_idle_connection_has_no_thread(gateway, websocket, fake_upstream):
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    websocket(gateway).turn()
    before = threads_of(gateway)
    clients = [websocket(gateway) for _ in range(60)]
    for client in clients[::10]:
        client.turn()
    assert threads_of(gateway) <= before + 2  # those that served the turns


def test_a_stream_has_no_thread_while_it_waits(gateway, websocket, fake_upstream):
    fake_upstream.answer_always("/answers", HELD)
    clients = [websocket(gateway) for _ in range(30)]
    for client in clients:
        client.create(store=False)
        client.receive()
    before = threads_of(gateway)
    more = [websocket(gateway) for _ in range(30)]
    for client in more:
        client.create(store=False)
        client.receive()
    assert threads_of(gateway) <= before + 2
    fake_upstream.release.set()
    for client in (*clients, *more):
        client.receive_until("response.completed")


# -------------------------------------------------------------------------------------------------------------- clients
@pytest.mark.parametrize("way", ["a close frame", "an end", "a reset"])
@pytest.mark.parametrize("when", ["before the head", "in mid-answer"])
def test_the_upstream_of_a_client_that_leaves_is_closed(gateway, fake_upstream, way, when):
    start = len(gateway.log)
    fake_upstream.script(HELD if when == "in mid-answer" else Reply(before=[Step.HOLD]))
    client = open_raw(gateway, fake_upstream)
    client.sendall(create())
    request = fake_upstream.wait_for_request()
    assert request.held.wait(60)
    if when == "in mid-answer":
        raw_client.read_until(client, b"response.created")
    if way == "a close frame":
        client.sendall(Frame(Opcode.CLOSE, struct.pack("!H", 1000)).serialize(mask=True))
    else:
        linger = struct.pack("ii", int(way == "a reset"), 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()
    assert request.peer_gone.wait(60)  # long before any timeout of the gateway
    gateway.wait_for_log("outcome=cut" if when == "in mid-answer" else " 499 ", start)
    if way == "a close frame":
        rest = raw_client.read_until(client, b"\x88\x02\x03\xe8")
        assert rest.endswith(b"\x88\x02\x03\xe8") and client.recv(1) == b""


def read_to_the_end(connection):
    """How many bytes come up to the end of a response, without keeping them."""
    count, last = 0, b""
    while b'"response.completed"' not in last:
        piece = connection.recv(2**20)
        assert piece
        count, last = count + len(piece), last[-100_000:] + piece
    return count


@pytest.mark.soak
def test_a_client_that_reads_slowly_slows_its_upstream_down_and_gets_everything(start, fake_upstream):
    gateway = start()
    piece = message_stream("x" * 200_000)[4]
    fake_upstream.script(Reply([FIRST, *[piece] * 600, OTHERS[-1]]), Reply(message_stream()))
    client = open_raw(gateway, fake_upstream, receive_buffer=2**16)
    client.sendall(create(store=False))
    request = fake_upstream.wait_for_request()
    assert not request.over.wait(2), "the gateway took all that was offered"
    assert read_to_the_end(client) > 600 * 200_000 / 3
    client.sendall(create())
    read_to_the_end(client)


def test_a_client_that_does_not_read_is_given_up(impatient, fake_upstream):
    piece = message_stream("x" * 50_000)[4]
    fake_upstream.script(Reply([FIRST, *[piece] * 2000, OTHERS[-1]]))
    client = open_raw(impatient, fake_upstream, receive_buffer=2**14)
    client.sendall(create(store=False))
    impatient.wait_for_log("Dropped a client that stalled for 0.3 seconds")
    impatient.wait_for_log("outcome=cut")
    assert fake_upstream.requests[0].peer_gone.wait(60)
    client.close()


@pytest.mark.soak
def test_an_answer_that_does_not_stream_waits_for_a_slow_client_too(start, fake_upstream):
    """Its one event is larger than what the systems of both ends hold."""
    gateway = start()
    answer = json.dumps(json.loads(OTHERS[-1].split(b"data: ")[1])["response"] | {"padding": "x" * 2**24}).encode()
    fake_upstream.script(Reply([answer], headers=[("content-type", "application/json")]))
    client = open_raw(gateway, fake_upstream, receive_buffer=2**16)
    client.sendall(create(store=False))
    assert read_to_the_end(client) > 2**24


@pytest.mark.parametrize(
    "beginning",
    [b"\x81", create()[:-5], Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True)],
    ids=["a byte", "a part of a frame", "a part of a message"],  # masks are random
)
def test_a_message_that_does_not_go_on_closes_the_connection(impatient, fake_upstream, beginning):
    client = open_raw(impatient, fake_upstream)
    client.sendall(beginning)
    received = b""
    while piece := client.recv(2**16):
        received += piece
    assert b"\x03\xf0" in received  # 1008


def test_an_idle_connection_is_pinged_and_stays(impatient, fake_upstream):
    client = open_raw(impatient, fake_upstream)
    received = b""
    while len(received) < 20:  # none of the pings is answered
        received += client.recv(2**16)
    assert received == b"\x89\x00" * (len(received) // 2)
    fake_upstream.script(Reply(message_stream()))
    client.sendall(create())
    raw_client.read_until(client, b'"response.completed"')


def test_messages_that_are_not_complete_share_the_memory_for_bodies(impatient, fake_upstream):
    piece = Frame(Opcode.TEXT, b" " * 700_000, fin=False).serialize(mask=True)
    one, other = (open_raw(impatient, fake_upstream) for _ in range(2))
    one.sendall(piece + Frame(Opcode.PING, b"1").serialize(mask=True))
    assert raw_client.read_until(one, b"\x8a\x011")
    other.sendall(piece)
    assert b"\x03\xf5" in raw_client.read_until(other, b"Try again soon.")  # 1013
    one.close()


# ------------------------------------------------------------------------------------------------------------- stopping
def test_idle_connections_are_closed_and_running_responses_finish(start, websocket, fake_upstream):
    gateway = start(graceful_timeout="20")
    fake_upstream.script(HELD)
    idle, running = websocket(gateway), websocket(gateway)
    running.create()
    running.receive()
    gateway.process.send_signal(signal.SIGTERM)
    wait_for(lambda: is_refused(gateway))
    assert idle.close_code() == 1001
    fake_upstream.release.set()
    running.receive_until("response.completed")
    assert running.close_code() == 1001
    assert gateway.process.wait(60) == 0
    assert "did not end in time" not in gateway.log


@pytest.mark.soak
def test_a_response_that_does_not_finish_in_time_is_told(start, websocket, fake_upstream):
    gateway = start(graceful_timeout="2")
    fake_upstream.script(HELD, Reply(before=[Step.HOLD]))
    running, waiting = websocket(gateway), websocket(gateway)
    for number, client in enumerate((running, waiting), 1):
        client.create()
        fake_upstream.wait_for_request(number)
    running.receive()
    gateway.process.send_signal(signal.SIGTERM)
    *_, error, failed = running.receive_until("response.failed")
    assert (error["code"], failed["type"]) == ("server_shutting_down", "response.failed")
    error = waiting.receive()
    assert (error["status"], error["error"]["code"]) == (503, "server_shutting_down")
    assert running.close_code() == waiting.close_code() == 1001
    assert gateway.process.wait(60) == 0


@pytest.mark.soak
def test_a_reload_closes_idle_connections(start, websocket, fake_upstream):
    gateway = start()
    client = websocket(gateway)
    gateway.process.send_signal(signal.SIGHUP)
    assert client.close_code() == 1001
    fake_upstream.script(Reply(message_stream()))
    websocket(gateway).turn()


@pytest.mark.soak
def test_a_worker_that_is_killed_leaves_nothing_behind(start, websocket, fake_upstream):
    """What was stored can be continued, what was not is unknown; the key's limits are free again."""
    gateway = start()
    fake_upstream.script(Reply(message_stream()), Reply(message_stream()), HELD)
    client = websocket(gateway)
    stored, unstored = client.turn(), client.turn(store=False)
    client.create()
    client.receive()
    (worker,) = gateway.workers
    os.kill(worker, signal.SIGKILL)
    assert client.close_code() is None
    wait_for(lambda: gateway.workers not in ([], [worker]))
    fake_upstream.release.set()
    fake_upstream.script(Reply(message_stream()))
    client = websocket(gateway)
    client.refused(400, "previous_response_not_found", previous_response_id=unstored["id"])
    client.turn(previous_response_id=stored["id"])


# ------------------------------------------------------------------------------------------------------------- many
@pytest.mark.soak
def test_five_hundred_idle_connections_cost_little(start, fake_upstream):
    gateway = start()
    (worker,) = gateway.workers

    def resident():
        status = Path(f"/proc/{worker}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    opened = [open_raw(gateway, fake_upstream) for _ in range(12)]
    before, threads = resident(), threads_of(gateway)
    opened += [open_raw(gateway, fake_upstream) for _ in range(500)]
    each = (resident() - before) / 500
    assert each < 60, f"{each} KiB"
    assert threads_of(gateway) <= threads + 2
    refused = ApiClient(gateway.url, gateway.key).send("GET", "/v1/responses", headers=UPGRADE)
    assert refused.status == 426
    for connection in opened:
        connection.close()


# -------------------------------------------------------------------------------------------------------------- floods
FLOODS = {
    "pings": Frame(Opcode.PING, b"").serialize(mask=True),
    "pongs": Frame(Opcode.PONG, b"").serialize(mask=True),
    "fragments": Frame(Opcode.CONT, b" ", fin=False).serialize(mask=True),
    "empty fragments": Frame(Opcode.CONT, b"", fin=False).serialize(mask=True),
    "messages": Frame(Opcode.TEXT, b"{}").serialize(mask=True),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_small_frames_ends_the_connection(gateway, websocket, fake_upstream, kind):
    """All WebSockets of a worker share a thread, and a frame of six bytes takes as long as kilobytes of text."""
    with open_raw(gateway, fake_upstream) as client:
        if "fragments" in kind:
            client.sendall(Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True))
        received = b""
        with contextlib.suppress(ConnectionError):
            client.sendall(FLOODS[kind] * 20_000)
            while piece := client.recv(2**20):
                received += piece
        assert struct.pack(">H", 1008) + b"Too many small frames." in received
    fake_upstream.script(Reply(message_stream()))
    websocket(gateway).turn()


def test_a_large_message_in_many_fragments_is_no_flood(gateway, websocket, fake_upstream):
    fake_upstream.script(Reply(message_stream()))
    client = websocket(gateway)
    text = json.dumps({"type": "response.create", "model": "model-1", "input": "x" * 900_000, "store": False})
    client.connection.send(text[start : start + 300] for start in range(0, len(text), 300))
    assert client.receive_answer()[-1]["type"] == "response.completed"
