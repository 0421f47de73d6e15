"""The server is killed during commits: every id that a client saw complete is stored, and nothing is stored by half.

A response may have been stored without its client having learned it, when the server died in between; nobody can
prevent that. Such a response is whole. One whose commit was interrupted does not exist.
"""

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest

from floway_core.storage import keys
from floway_core.storage.db import select
from floway_core.testing import ApiClient, events

from .direct_store import Store, assistant, execute, user

pytestmark = pytest.mark.soak  # long: many processes, or waits

POINTS = ["0", "1", "2", "3", "4", "commit", "committed"]
CONVERSATIONS = 6


@dataclass
class Seen:
    """What the clients have seen, over all conversations."""

    complete: dict[str, list] = field(default_factory=dict)
    """The history behind each response that a client saw complete."""
    begun: dict[str, tuple[str | None, list]] = field(default_factory=dict)
    """For each response that was announced and never ended: where it was to die, and its history if it was stored."""
    points: Iterator[str] = field(default_factory=lambda: itertools.cycle(POINTS))


def received(caller, body, kill):
    """The events of an answer, as far as it came."""
    headers = {"content-type": "application/json"} | ({"x-test-kill": kill} if kill else {})
    output = [assistant(f"answer {random.random()}")]
    headers["x-test-output"] = json.dumps(output)
    exchange = None
    with contextlib.suppress(OSError, EOFError, http.client.HTTPException):
        exchange = caller.send("POST", "/v1/responses", json.dumps(body).encode(), headers)
        exchange.read_until(b"[DONE]")
    content = exchange.received if exchange else b""
    return events.parse(content[: content.rfind(b"\n\n") + 2]), output


def converse(caller, seen, seed, done, kills):
    """Continue a conversation from the last response that was seen complete, until ``done`` says so.

    :param kills: whether some of its requests kill the worker that serves them.
    """
    chance, previous, history = random.Random(seed), None, []
    for number in range(10_000):
        if done():
            return
        kill = next(seen.points) if kills and chance.random() < 0.25 else None
        given = f"{seed}.{number}"
        body = {"model": "model-1", "stream": True, "input": given, "previous_response_id": previous}
        told, output = received(caller, body, kill)
        after = [*history, user(given), *output]
        if told and told[-1]["type"] == "response.completed":
            previous, history = told[-1]["response"]["id"], after
            seen.complete[previous] = history
        elif told:
            seen.begun[told[0]["response"]["id"]] = (kill, after)


def converse_by_id(caller, seed, done):
    """Continue a conversation by its id; return the id, and for each text whether its turn was seen complete.

    Some requests kill the worker that serves them. While the lock of a dead worker lasts, the turn is tried again.
    """
    chance, turns = random.Random(seed), {}
    conversation = caller.post({}, "/v1/conversations").json()["id"]
    for number in range(10_000):
        if done():
            break
        kill = chance.choice(POINTS) if chance.random() < 0.25 else None
        body = {"model": "model-1", "stream": True, "input": f"{seed}.{number}", "conversation": conversation}
        told, _ = received(caller, body, kill)
        if told:
            turns[body["input"]] = told[-1]["type"] == "response.completed"
    return conversation, turns


def check(store, seen):
    stored = select(store.database, "SELECT response_id FROM responses_snapshots WHERE api_key_id = ?", store.key_id)
    stored = {response_id for (response_id,) in stored}
    assert seen.complete.keys() <= stored
    for response_id, history in seen.complete.items():
        assert store.history(response_id) == history
    for response_id, (kill, history) in seen.begun.items():
        if kill not in (None, "committed"):
            assert response_id not in stored, kill
        elif response_id in stored:
            assert store.history(response_id) == history
    empty = (
        "SELECT count(*) FROM responses_conversations WHERE id NOT IN (SELECT conversation_id FROM responses_snapshots)"
    )
    assert select(store.database, empty) == [(0,)]
    for parent in sorted(seen.complete)[-3:]:
        assert store.history(store.turn("on", assistant("b"), previous=parent))[:-2] == seen.complete[parent]


def deaths(gateway):
    """How many workers were killed so far."""
    return gateway.log.count("was sent SIGKILL")


def store_with(acting, key):
    (found,) = select(acting.database, "SELECT id FROM api_keys WHERE key_hash = ?", keys._hash(key))
    return Store(acting.database, found[0])


@pytest.mark.parametrize("kills", [12, pytest.param(50, marks=pytest.mark.soak)])
def test_workers_are_killed_in_the_middle_of_commits(start_acting, new_database, kills):
    acting = start_acting(new_database(), workers="3", log_level="error")
    key, seen = keys.create(acting.database, "killed"), Seen()

    def is_done():
        tried = {kill for kill, _ in list(seen.begun.values())}
        return deaths(acting.gateway) >= kills and tried >= set(POINTS) and len(seen.complete) > kills

    with ThreadPoolExecutor(CONVERSATIONS) as pool:
        tasks = [
            pool.submit(converse, ApiClient(acting.gateway.url, key), seen, seed, is_done, True)
            for seed in range(CONVERSATIONS)
        ]
        for task in tasks:
            task.result()
    assert is_done()
    acting.gateway.kill()
    check(store_with(acting, key), seen)


def test_workers_are_killed_in_the_middle_of_conversations(start_acting, new_database):
    """What a client saw complete is in the conversation, once and in order; of another turn, all or nothing."""
    acting = start_acting(new_database(), workers="3", log_level="error")
    key = keys.create(acting.database, "killed")

    def is_done():
        # no worker lives to end its lease: end it, as time would
        execute(acting.database, "DELETE FROM turn_leases WHERE id IN (SELECT locked_by FROM responses_conversations)")
        return deaths(acting.gateway) >= 12

    with ThreadPoolExecutor(CONVERSATIONS) as pool:
        tasks = [pool.submit(converse_by_id, ApiClient(acting.gateway.url, key), seed, is_done) for seed in range(3)]
        led = [task.result() for task in tasks]
    caller = ApiClient(acting.gateway.url, key)
    assert sum(sum(turns.values()) for _, turns in led) > 12
    for conversation, turns in led:
        items, after = [], ""
        while page := caller.get(f"/v1/conversations/{conversation}/items?order=asc&limit=100{after}").json()["data"]:
            items += page
            after = f"&after={quote(page[-1]['id'])}"
        roles = [item["role"] for item in items]
        assert roles == ["user", "assistant"] * (len(items) // 2)
        stored = [item["content"][0]["text"] for item in items[::2]]
        assert stored == [text for text in turns if text in stored]
        assert [text for text, is_complete in turns.items() if is_complete and text not in stored] == []


def test_the_whole_server_is_killed(start_acting, new_database):
    url, key, seen = new_database(), None, Seen()
    for _ in range(2):
        acting = start_acting(url, workers="2", log_level="error")
        key = key or keys.create(acting.database, "killed")
        ended, enough = threading.Event(), len(seen.complete) + 60
        with ThreadPoolExecutor(CONVERSATIONS) as pool:
            for seed in range(CONVERSATIONS):
                caller = ApiClient(acting.gateway.url, key)
                pool.submit(converse, caller, seen, 1000 + len(seen.complete) + seed, ended.is_set, False)
            deadline = time.monotonic() + 60
            while len(seen.complete) < enough and time.monotonic() < deadline:
                time.sleep(0.001)
            acting.gateway.kill()
            ended.set()
        assert len(seen.complete) >= enough
    check(store_with(acting, key), seen)
