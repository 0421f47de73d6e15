"""Small requests that load much of what is stored: their memory counts together with that of all bodies."""

import contextlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.testing import Reply, Step, events, message_stream
from floway_core.testing.events import DONE

from .raw_client import connect, wait_for
from .test_request_bodies import few_served, memory

BUDGET = 100 * 2**20
HOLES = 100 * 2**20
"""What the allocator may keep of memory that is free again: on a busy machine several threads load at the same time.
Without a limit, twenty histories take 600 MiB."""
SIZE = 10_000_000


@pytest.fixture
def stored(start, call, fake_upstream):
    """A client of a gateway with a large conversation, which has an id, and the id of a response in it."""
    gateway = start(body_memory_bytes=str(BUDGET))
    ask = call(gateway)
    conversation = ask.post({"metadata": {"a": "b"}}, "/v1/conversations").json()["id"]
    fake_upstream.script(Reply(message_stream()))
    answer = ask.create(os.urandom(SIZE // 2).hex(), conversation=conversation, instructions="x" * SIZE).json()
    return gateway, ask, conversation, answer["id"]


def test_histories_have_a_common_limit(stored, refused, fake_upstream):
    gateway, ask, _, response_id = stored
    first, *others = message_stream()
    fake_upstream.answer_always("/answers", Reply([first, Step.HOLD, *others]))
    before = memory(gateway.workers[0], "VmRSS")
    answers = [ask.stream("on", previous_response_id=response_id) for _ in range(20)]
    served = few_served(answers, refused)
    while (answer := ask.stream("on", previous_response_id=response_id)).status == 200:  # a stream that runs needs less
        served.append(answer)
    assert len(served) <= 5
    counted = ask.post({"model": "model-1", "previous_response_id": response_id}, "/v1/responses/input_tokens")
    refused(counted, 503, "server_overloaded")
    background = ask.create("on", previous_response_id=response_id, background=True)
    refused(background, 503, "server_overloaded")
    assert memory(gateway.workers[0], "VmRSS") - before < BUDGET + HOLES
    fake_upstream.release.set()
    assert all(answer.body.endswith(DONE) for answer in served)
    wait_for(lambda: ask.stream("on", previous_response_id=response_id).status == 200)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/{response}",
        "/v1/responses/{response}?stream=true",
        "/v1/responses/{response}/input_items",
        "/v1/conversations/{conversation}/items",
    ],
)
def test_stored_data_that_nobody_reads_has_the_same_limit(stored, path):
    gateway, ask, conversation, response_id = stored
    path = path.format(conversation=conversation, response=response_id)
    before = memory(gateway.workers[0], "VmRSS")
    head = f"GET {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {gateway.key}\r\n\r\n".encode()
    clients = []
    for _ in range(30):
        clients.append(connect(gateway, receive_buffer=2**14))
        clients[-1].sendall(head)
        assert clients[-1].recv(16).startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
    assert ask.get(path).status == 503
    assert memory(gateway.workers[0], "VmRSS") - before < BUDGET + HOLES
    for client in clients:
        client.close()
    wait_for(lambda: ask.get(path).status == 200)


def test_items_that_do_not_fit_are_not_added(start, call, refused):
    gateway = start(body_memory_bytes=str(60 * 2**20))
    ask = call(gateway)
    path = f"/v1/conversations/{ask.post({'metadata': {}}, '/v1/conversations').json()['id']}/items"
    item = {"role": "user", "content": os.urandom(SIZE // 2).hex()}
    added = 0
    while (answer := ask.post({"items": [item]}, path)).status == 200:
        assert len(answer.json()["data"]) == 1
        added += 1
    refused(answer, 413, "request_too_large")
    assert 1 <= added < 6
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM responses_items").fetchone() == (added,)
    assert ask.send("DELETE", path.removesuffix("/items")).status == 200


def test_events_that_nobody_reads_have_the_same_limit(start, call, fake_upstream):
    """Those of a background response. Who waits for memory gets all of them when others have received theirs."""
    gateway = start(body_memory_bytes=str(BUDGET))
    ask = call(gateway)
    fake_upstream.script(Reply(message_stream("x" * (SIZE // 2))))
    large = ask.stream(background=True).body
    path = f"/v1/responses/{events.parse(large)[0]['response']['id']}?stream=true"
    before = memory(gateway.workers[0], "VmRSS")
    clients = [connect(gateway, receive_buffer=2**14) for _ in range(20)]
    for client in clients:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {gateway.key}\r\n\r\n".encode())
        assert client.recv(16).startswith(b"HTTP/1.1 200")
    for _ in range(2):  # the thread that serves these has been at the others meanwhile
        fake_upstream.script(Reply(message_stream()))
        assert ask.stream(background=True).body.endswith(DONE)
    assert memory(gateway.workers[0], "VmRSS") - before < BUDGET + HOLES
    with ThreadPoolExecutor(len(clients)) as pool:
        sizes = list(pool.map(receive_all, clients))
    assert min(sizes) >= len(large)


def receive_all(client):
    """Receive a chunked body to its end; return the bytes."""
    size, end = 0, b""
    while not end.endswith(b"\r\n0\r\n\r\n"):
        piece = client.recv(2**20)
        assert piece
        size, end = size + len(piece), (end + piece)[-7:]
    return size
