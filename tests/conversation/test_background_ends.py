"""Responses without a client: after a stop or a kill of the server, and after the client has disconnected."""

import json
import signal
import time

import pytest

from floway_core.conversation import background
from floway_core.storage import keys
from floway_core.testing import ApiClient, Reply, Step, events, message_stream

from ..faults.raw_client import is_refused
from ..faults.raw_client import wait_for as until
from .direct_store import execute

pytestmark = pytest.mark.soak  # long: many processes

FIRST, *REST = message_stream("answer")
HELD = Reply([FIRST, Step.HOLD, *REST])


@pytest.fixture
def restarts(start_acting, new_database, client_of):
    """Starts gateways one after another on one database, and makes a client with the same key for each."""
    url, key = new_database(), None

    def start(**settings):
        nonlocal key
        acting = start_acting(url, **settings)
        key = key or keys.create(acting.database, "kept")
        return acting, client_of(acting, key)

    return start


def create(client, upstream, **fields):
    headers = {"content-type": "application/json", "x-test-upstream": upstream.url}
    body = {"model": "model-1", "input": "one", **fields}
    return client.caller.send("POST", "/v1/responses", json.dumps(body).encode(), headers)


def read(client, response_id):
    exchange = client.caller.send("GET", f"/v1/responses/{response_id}")
    return exchange.json() if exchange.status == 200 else {"status": exchange.status}


def wait_for(client, response_id, status):
    deadline = time.monotonic() + 60
    while (told := read(client, response_id))["status"] != status:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    return told


def test_a_server_that_stops_waits_for_them(restarts, fake_upstream):
    acting, client = restarts(graceful_timeout="20", workers="1")
    fake_upstream.script(HELD)
    response_id = create(client, fake_upstream, background=True).json()["id"]
    assert fake_upstream.wait_for_request().held.wait(60)
    acting.gateway.process.send_signal(signal.SIGTERM)
    until(lambda: is_refused(acting.gateway))
    assert acting.gateway.process.poll() is None
    fake_upstream.release.set()
    assert acting.gateway.process.wait(60) == 0
    _, client = restarts()
    assert read(client, response_id)["status"] == "completed"


def test_what_does_not_finish_in_time_has_failed(restarts, fake_upstream):
    acting, client = restarts(graceful_timeout="2", workers="1")
    fake_upstream.script(HELD, HELD)
    response_id = create(client, fake_upstream, background=True).json()["id"]
    followed = create(client, fake_upstream, background=True, stream=True)
    followed.read_until(b"response.created")
    assert fake_upstream.wait_for_request(2).held.wait(60)
    acting.gateway.process.send_signal(signal.SIGTERM)
    last = followed.events()[-1]
    assert last["type"] == "response.failed" and last["response"]["error"]["code"] == "server_shutting_down"
    assert acting.gateway.process.wait(60) == 0
    _, client = restarts()
    told = read(client, response_id)
    assert (told["status"], told["error"]["code"]) == ("failed", "server_shutting_down")
    assert read(client, last["response"]["id"]) == last["response"]


def test_a_server_that_is_killed(restarts, fake_upstream):
    """The response fails when its lease ends, within a minute; what was stored can be followed to its end."""
    acting, client = restarts(workers="1")
    fake_upstream.script(HELD)
    followed = create(client, fake_upstream, background=True, stream=True)
    followed.read_until(b"response.created")
    received = followed.received
    response_id = events.parse(received[: received.rfind(b"\n\n") + 2])[0]["response"]["id"]
    acting.gateway.kill()
    acting, client = restarts()
    assert read(client, response_id)["status"] == "in_progress"
    joined = client.caller.send("GET", f"/v1/responses/{response_id}?stream=true")
    joined.read_until(b"response.created")
    execute(acting.database, "UPDATE turn_leases SET expires_at = 1 WHERE id = ?", background.lease_id(response_id))
    told = read(client, response_id)
    assert told["status"] == "failed" and "stopped" in told["error"]["message"]
    last = joined.events()[-1]
    assert last["type"] == "response.failed" and last["response"] == told


def test_a_client_that_only_follows_learns_that_the_server_was_killed(restarts, fake_upstream):
    acting, client = restarts(workers="1")
    fake_upstream.script(HELD)
    begun = create(client, fake_upstream, background=True, stream=True).read_until(b"response.created")
    response_id = events.parse(begun[: begun.rfind(b"\n\n") + 2])[0]["response"]["id"]
    acting.gateway.kill()
    acting, client = restarts()
    followed = client.caller.send("GET", f"/v1/responses/{response_id}?stream=true")
    followed.read_until(b"response.created")
    execute(acting.database, "UPDATE turn_leases SET expires_at = 1 WHERE id = ?", background.lease_id(response_id))
    last = followed.events()[-1]
    assert last["type"] == "response.failed" and "stopped" in last["response"]["error"]["message"]
    assert read(client, response_id) == last["response"]


def test_a_worker_that_was_taken_for_dead_gives_up_its_responses(restarts, fake_upstream):
    """Nobody could read what it creates."""
    acting, client = restarts()
    fake_upstream.script(HELD)
    response_id = create(client, fake_upstream, background=True).json()["id"]
    assert fake_upstream.wait_for_request().held.wait(60)
    execute(acting.database, "UPDATE turn_leases SET expires_at = 1 WHERE id = ?", background.lease_id(response_id))
    assert read(client, response_id)["status"] == "failed"
    assert fake_upstream.requests[0].peer_gone.wait(60)
    acting.gateway.wait_for_log("BACKGROUND ")
    assert "stopped" in read(client, response_id)["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_whose_client_hangs_up_is_finished_if_so_set(restarts, fake_upstream, stream):
    acting, client = restarts(abandoned_responses="finish")
    fake_upstream.script(HELD, HELD)
    for store in (True, False):
        running = create(client, fake_upstream, stream=stream, store=store)
        request = fake_upstream.wait_for_request(1 if store else 2)
        assert request.held.wait(60)
        if stream:
            running.read_until(b"response.created")
        running.hang_up()
        if not store:
            assert request.peer_gone.wait(60)
    fake_upstream.release.set()
    (line,) = acting.gateway.wait_for_log("outcome=completed")
    request_id = line.partition(" id=")[2].split()[0]
    told = wait_for(client, f"resp_{request_id.replace('-', '')}", "completed")
    assert told["output"]


def test_otherwise_it_is_given_up(restarts, fake_upstream):
    acting, client = restarts()
    fake_upstream.script(HELD)
    running = create(client, fake_upstream, stream=True)
    running.read_until(b"response.created")
    running.hang_up()
    assert fake_upstream.requests[0].peer_gone.wait(60)
    acting.gateway.wait_for_log("outcome=cut")
    assert client.rows() == [0, 0, 0]


def test_they_count_as_running_requests_of_their_key(restarts, fake_upstream):
    acting, _ = restarts()
    key = keys.create(acting.database, "limited", {"concurrent_requests": 1})
    caller = ApiClient(acting.gateway.url, key, {"x-test-upstream": fake_upstream.url})
    fake_upstream.script(HELD, Reply([FIRST, *REST]))
    body = {"model": "model-1", "input": "one", "background": True}
    first = caller.post(body)
    assert first.status == 200 and first.json()
    refused = caller.post(body)
    assert refused.status == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"
    fake_upstream.release.set()
    acting.gateway.wait_for_log("BACKGROUND ")
    assert caller.post(body).status == 200


def test_they_need_no_thread_while_they_wait(restarts, fake_upstream):
    acting, client = restarts(workers="1")
    fake_upstream.script(*[HELD] * 40)
    ids = []
    for number in range(1, 41):  # one after another: all at once would need threads until they have begun
        ids.append(create(client, fake_upstream, background=True).json()["id"])
        assert fake_upstream.wait_for_request(number).held.wait(60)
        wait_for(client, ids[-1], "in_progress")
    (worker,) = acting.gateway.workers
    with open(f"/proc/{worker}/status") as lines:
        assert int(next(line.split()[1] for line in lines if line.startswith("Threads:"))) < len(ids)
    fake_upstream.release.set()
    for response_id in ids:
        wait_for(client, response_id, "completed")
