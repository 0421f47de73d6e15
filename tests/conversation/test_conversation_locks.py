"""Turns of one conversation at the same time: one of them runs, the others fail clearly, and nothing is lost."""

import json
import time

import pytest

from floway_core.storage.db import select
from floway_core.testing import Reply, Step, message_stream

from .conversation_client import Api, texts
from .direct_store import execute, user


def begin_turn(api, upstream, conversation, text):
    """Return a streamed turn to which the upstream has begun to answer, and now waits."""
    first, *rest = message_stream("answer")
    upstream.script(Reply([first, Step.HOLD, *rest]))
    headers = {"x-test-upstream": upstream.url, "content-type": "application/json"}
    body = {"model": "model-1", "input": text, "conversation": conversation, "stream": True}
    running = api.client.caller.send("POST", "/v1/responses", json.dumps(body).encode(), headers)
    running.read_until(b"response.created")
    return running


@pytest.fixture
def api(client):
    return Api(client)


def test_two_turns_at_once(api, fake_upstream):
    """The second one fails clearly, and so does every change by hand, until the first has ended."""
    conversation = api.create(user("zero"))
    running = begin_turn(api, fake_upstream, conversation, "one")
    for refused in (
        api.client.ask("two", conversation=conversation).body,
        api.send("POST", f"/{conversation}/items", {"items": [user("x")]}, status=409),
        api.send("DELETE", f"/{conversation}", status=409),
        api.remove(conversation, api.items(conversation)["data"][0]["id"], status=409),
    ):
        assert refused["error"]["code"] == "conversation_locked"
    assert api.texts(conversation) == ["zero"]
    assert api.send("POST", f"/{conversation}", {"metadata": {"a": "b"}})["metadata"] == {"a": "b"}
    fake_upstream.release.set()
    assert b"response.completed" in running.body
    assert len(api.items(conversation)["data"]) > 1
    api.turn(conversation, "two", "2")


@pytest.mark.parametrize("how", ["failed", "cut"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_fails_changes_nothing_and_lets_go(api, how, stream):
    conversation = api.create(user("zero"))
    api.client.ask("one", conversation=conversation, stream=stream, headers={"x-test-answer": how})
    assert api.texts(conversation) == ["zero"]
    assert texts(api.turn(conversation, "two", "2").sent[0]) == ["zero", "two"]


def test_a_client_that_hangs_up_lets_go(api, fake_upstream, acting):
    conversation = api.create()
    running = begin_turn(api, fake_upstream, conversation, "one")
    running.hang_up()
    acting.gateway.wait_for_log(f"id={running.headers['x-request-id']} ")
    api.turn(conversation, "two", "2")


def test_the_lock_of_a_worker_that_died_ends(api, acting):
    conversation = api.create()
    execute(
        acting.database, "UPDATE responses_conversations SET locked_by = 'resp_x' WHERE public_id = ?", conversation
    )
    sql = "INSERT INTO turn_leases (id, api_key_id, expires_at) SELECT 'resp_x', id, ? FROM api_keys WHERE key_hash = ?"
    execute(acting.database, sql, int(time.time()) + 50, api.client.key_hash)
    assert api.client.ask("one", conversation=conversation).error["code"] == "conversation_locked"
    execute(acting.database, "UPDATE turn_leases SET expires_at = ? WHERE id = 'resp_x'", int(time.time()) - 1)
    api.turn(conversation, "one", "1")
    assert select(acting.database, "SELECT 1 FROM turn_leases WHERE id = 'resp_x'") == []


def test_a_turn_that_lost_its_lock_does_not_overwrite(api, fake_upstream, acting):
    conversation = api.create(user("zero"))
    running = begin_turn(api, fake_upstream, conversation, "late")
    execute(acting.database, "UPDATE turn_leases SET expires_at = 0")  # as if the process had been suspended
    api.turn(conversation, "one", "1")
    fake_upstream.release.set()
    assert b"conversation_changed" in running.body
    assert api.texts(conversation) == ["zero", "one", "1"]
