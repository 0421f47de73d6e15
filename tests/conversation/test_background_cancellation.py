"""Background responses: cancelled and deleted."""

import time

import pytest

from floway_core.storage.db import connect, select, transaction
from floway_core.testing import events

from .background_client import create, read, wait_for
from .direct_store import execute

RUNNING = ("queued", "in_progress")


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_cancelled(client, held, stream):
    exchange = create(client, held, stream=stream)
    if stream:
        exchange.read_until(b"response.created")
        received = exchange.received
        response_id = events.parse(received[: received.rfind(b"\n\n") + 2])[0]["response"]["id"]
    else:
        response_id = exchange.json()["id"]
    request = held.wait_for_request()
    assert request.held.wait(60)
    told = client.caller.send("POST", f"/v1/responses/{response_id}/cancel").json()
    assert told["status"] == "cancelled" and told["id"] == response_id
    assert request.peer_gone.wait(60)
    assert read(client, response_id)["status"] == "cancelled"
    if stream:
        last = exchange.events()[-1]
        assert (last["type"], last["response"]["status"]) == ("response.cancelled", "cancelled")
    assert client.ask("on", previous_response_id=response_id).error["code"] == "previous_response_not_found"
    assert client.rows() == [0, 0, 0]
    assert client.caller.send("DELETE", f"/v1/responses/{response_id}").json()["deleted"]
    assert read(client, response_id, 404)


def test_others_cannot_be_cancelled(client):
    told = client.turn("one")
    exchange = client.caller.send("POST", f"/v1/responses/{told.id}/cancel")
    assert exchange.status == 400 and exchange.json()["error"]["message"] == "Cannot cancel a synchronous response."
    done = create(client).json()["id"]
    complete = wait_for(client, done, "completed")
    assert client.caller.send("POST", f"/v1/responses/{done}/cancel").json() == complete


def test_deleting_it_gives_it_up(client, held):
    response_id = create(client, held).json()["id"]
    request = held.wait_for_request()
    assert request.held.wait(60)
    assert client.caller.send("DELETE", f"/v1/responses/{response_id}").status == 200
    assert request.peer_gone.wait(60)
    assert read(client, response_id, 404)
    assert client.rows() == [0, 0, 0]
    assert client.caller.send("DELETE", f"/v1/responses/{response_id}").status == 404


def test_deleting_it_after_its_end(client):
    response_id = create(client, stream=True).events()[-1]["response"]["id"]
    assert client.caller.send("DELETE", f"/v1/responses/{response_id}").status == 200
    assert read(client, response_id, 404) and client.rows() == [0, 0, 0]
    assert select(client.database, "SELECT 1 FROM background_responses WHERE response_id = ?", response_id) == []


def test_one_that_completes_while_it_is_deleted_is_deleted(start_acting, new_postgresql, client_of, held):
    url = new_postgresql()
    acting, locking = start_acting(url), connect(url)
    client = client_of(acting)
    response_id = create(client, held).json()["id"]
    wait_for(client, response_id, "in_progress")
    with transaction(locking):
        execute(locking, "SELECT 1 FROM background_responses WHERE response_id = ? FOR UPDATE", response_id)
        held.release.set()
        wait_for_blocked(acting.database, 1)  # the transaction that stores the response
        deletion = client.caller.send("DELETE", f"/v1/responses/{response_id}")
        wait_for_blocked(acting.database, 2)  # the deletion, which has seen the response running
    locking.close_all()
    assert deletion.json()["deleted"] and deletion.status == 200
    assert read(client, response_id, 404)
    assert client.rows() == [0, 0, 0]


def wait_for_blocked(database, count):
    """Wait until so many transactions wait for a lock."""
    deadline = time.monotonic() + 60
    sql = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pg_blocking_pids(pid) <> '{}'"
    while (blocked := select(database, sql)) != [(count,)]:
        assert time.monotonic() < deadline, blocked
        time.sleep(0.02)
