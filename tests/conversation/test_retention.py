"""Retention: use extends the lifetime of a conversation; the periodic run, a command or the key's deletion ends it."""

import dataclasses
import itertools
import os
import time
import uuid

import pytest

from floway_core.conversation import background, load, retention
from floway_core.errors import GatewayError
from floway_core.protocol import sse
from floway_core.storage import keys, stepwise
from floway_core.storage.db import select, transaction

from .direct_store import DAYS, Store, assistant, execute, user

DAY = 86_400


def age(store, days):
    """Make every conversation of the key as old as that."""
    then = int(time.time()) - int(days * DAY)
    store.execute("UPDATE responses_conversations SET used_at = ? WHERE api_key_id = ?", then, store.key_id)


def unused_for(store):
    (row,) = select(store.database, "SELECT used_at FROM responses_conversations WHERE api_key_id = ?", store.key_id)
    return time.time() - row[0]


@pytest.fixture
def tree(store):
    """A root with two children, one of which has a child and a compaction."""
    root = store.turn("One", assistant("a"))
    left, right = store.turn("left", assistant("b"), previous=root), store.turn("right", assistant("c"), previous=root)
    blob = {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"}
    return [root, left, right, store.turn("more", assistant("d"), previous=left), store.turn([], blob, previous=left)]


def test_a_conversation_expires_as_a_whole(store, tree):
    age(store, DAYS - 0.01)
    retention.sweep(store.database, DAYS)
    assert store.rows() == [1, 5, 9]
    age(store, DAYS + 0.01)
    assert all(store.snapshot(one) is None for one in tree), "before any sweep"
    with pytest.raises(GatewayError):
        store.begin([{"id": "msg_a"}])
    assert store.begin([user("One"), assistant("a"), user("Two")]).previous is None
    retention.sweep(store.database, DAYS)
    assert store.rows() == [0, 0, 0]


def uses():
    """Every way to use a conversation through one of its members."""
    return {
        "continuing": lambda store, one: store.begin("Two", one),
        "continuing unstored": lambda store, one: store.begin("Two", one, store=False),
        "storing": lambda store, one: store.turn("Two", assistant("e"), previous=one),
        "sending it again": lambda store, one: store.begin([*store.history(one), user("Two")]),
    }


@pytest.mark.parametrize("use", uses().values(), ids=uses())
@pytest.mark.parametrize("member", range(5))
def test_using_one_member_keeps_all(store, tree, use, member):
    age(store, DAYS - 0.01)
    use(store, tree[member])
    assert unused_for(store) < 60
    assert all(store.snapshot(one) for one in tree)


@pytest.mark.parametrize("path", ["", "?stream=true", "/input_items"])
def test_reading_is_a_use(client, path):
    told = client.turn("One")
    row = "(SELECT conversation_id FROM responses_snapshots WHERE response_id = ?)"
    then = int(time.time()) - DAYS * DAY + 999
    execute(client.database, f"UPDATE responses_conversations SET used_at = {then} WHERE id = {row}", told.id)
    assert client.caller.get(f"/v1/responses/{told.id}{path}").status == 200
    used = select(client.database, f"SELECT used_at FROM responses_conversations WHERE id = {row}", told.id)[0][0]
    assert time.time() - used < 60


def test_reading_rarely_writes(store, tree, queries):
    for one in tree:
        store.begin("Two", one)
    assert not [statement for statement in queries if "UPDATE" in statement]


def test_an_old_payload_lives_as_long_as_its_conversation(store):
    root = store.turn("One", assistant("a"))
    store.execute("UPDATE responses_snapshots SET created_at = 5 WHERE api_key_id = ?", store.key_id)
    child = store.turn("Two", assistant("b"), previous=root)
    retention.sweep(store.database, 1)
    assert store.history(child) == [user("One"), assistant("a"), user("Two"), assistant("b")]


def test_a_sweep_takes_only_what_is_old(store):
    other = Store(store.database)
    old, fresh = [store.turn(str(number), assistant("a")) for number in range(450)], other.turn("One", assistant("a"))
    age(store, DAYS + 1)
    assert retention.sweep(store.database, DAYS) >= len(old)
    assert (store.rows(), other.rows()) == ([0, 0, 0], [1, 1, 2])
    assert other.history(fresh) == [user("One"), assistant("a")]


@pytest.fixture
def pauses(monkeypatch, store):
    """What is stored of the key of ``store`` at each pause of a deletion: bytes, and rows of each table."""
    seen = []

    def look(seconds):
        sums = [select(store.database, f"SELECT {STORED[table]} FROM {table}")[0] for table in STORED]
        seen.append([tuple(map(int, total)) for total in sums])

    monkeypatch.setattr(stepwise, "sleep", look)
    return seen


STORED = {
    "responses_items": "COALESCE(SUM(LENGTH(payload)), 0), COUNT(*)",
    "responses_snapshots": "COALESCE(SUM(LENGTH(envelope)), 0), COUNT(*)",
    "background_events": "COALESCE(SUM(LENGTH(payload)), 0), COUNT(*)",
}
LARGE = 3_000_000


def assert_small_steps(pauses):
    """Between two pauses little is deleted, so that other writers do not wait for long."""
    assert len(pauses) > 2
    for before, after in itertools.pairwise(pauses):
        for (size_before, rows_before), (size_after, rows_after) in zip(before, after, strict=True):
            assert size_before - size_after <= stepwise.STEP_BYTES + LARGE
            assert rows_before - rows_after <= stepwise.STEP_ROWS


def test_large_conversations_are_deleted_in_small_steps(store, pauses):
    """One with large items, one with many, and one with large response objects."""
    text = os.urandom(LARGE // 2).hex()
    store.turn([user(text + str(number)) for number in range(12)], assistant("a"))
    parent = store.turn([user(str(number)) for number in range(1200)], assistant("a"))
    for _ in range(8):
        parent = store.turn("on", assistant("a"), previous=parent)
    sql = "UPDATE responses_snapshots SET envelope = ? WHERE api_key_id = ? AND depth > 0"
    store.execute(sql, b"j" + text.encode(), store.key_id)
    age(store, DAYS + 1)
    assert retention.sweep(store.database, DAYS) >= 2
    assert store.rows() == [0, 0, 0]
    assert_small_steps(pauses)


def test_events_are_deleted_in_small_steps(store, pauses):
    initial = {"id": f"resp_{uuid.uuid4().hex}", "status": "queued", "output": []}
    row = background.create(store.database, store.key_id, initial, has_events=True)
    for number in range(40):  # each on its own: together they take longer on a busy machine than a statement may
        data = b'{"sequence_number":%d,"text":"%s"}' % (number, os.urandom(LARGE // 2).hex().encode())
        with transaction(store.database):
            background.store_events(store.database, [(row, number, sse.encode("x", data))])
    background.end(store.database, initial["id"], "completed", initial)
    store.execute("UPDATE background_responses SET ended_at = 5 WHERE id = ?", row)
    background.sweep(store.database, 0)
    assert select(store.database, "SELECT COUNT(*) FROM background_events WHERE background_id = ?", row) == [(0,)]
    assert select(store.database, "SELECT has_events FROM background_responses WHERE id = ?", row) == [(False,)]
    assert_small_steps(pauses)


def test_what_is_being_deleted_is_not_used_again(store, monkeypatch):
    response_id = store.turn("Hi", assistant("a"))
    found = store.snapshot(response_id)
    age(store, DAYS + 1)
    expired = dataclasses.replace(found, used_at=int(time.time()) - (DAYS + 1) * DAY)
    monkeypatch.setattr(stepwise, "sleep", lambda seconds: retention.mark_used_if_due(store.database, expired))
    retention.sweep(store.database, DAYS)
    assert store.rows() == [0, 0, 0]


def test_for_ever_is_long(database):
    assert load.expiry_cutoff(10**17) == 0
    assert retention.sweep(database, 10**17) == 0


def test_the_command(acting, client):
    retention.sweep(client.database, DAYS)  # what other tests left
    client.turn("One")
    mine = f"(SELECT id FROM api_keys WHERE key_hash = '{client.key_hash}')"
    execute(client.database, f"UPDATE responses_conversations SET used_at = 5 WHERE api_key_id = {mine}")
    done = acting.gateway.run("retention", "run")
    assert (done.returncode, done.stdout) == (0, "Deleted 1 expired conversations.\n")
    assert client.rows() == [0, 0, 0]


def test_deleting_a_key_deletes_what_it_stored(acting, client_of):
    name = "to be deleted"
    client = client_of(acting, keys.create(acting.database, name))
    root = client.turn("One")
    client.turn("Two", root.id)
    client.turn("Three", root.id)
    mine = select(acting.database, "SELECT id FROM api_keys WHERE key_hash = ?", client.key_hash)[0][0]
    assert acting.gateway.run("keys", "delete", name, "--yes").returncode == 0
    for table in ("responses_conversations", "responses_snapshots", "responses_items"):
        assert select(acting.database, f"SELECT count(*) FROM {table} WHERE api_key_id = ?", mine) == [(0,)]
    assert client.ask("Two", previous_response_id=root.id).status == 401


def test_a_running_gateway_sweeps(start_acting, new_database):
    """It does so when it starts, and then every hour."""
    url = new_database()
    first = start_acting(url)
    old = Store(first.database)
    old.turn("One", assistant("a"))
    age(old, DAYS + 1)
    fresh = Store(first.database)
    fresh.turn("One", assistant("a"))
    first.gateway.kill()
    second = start_acting(url, log_level="info")
    deadline = time.monotonic() + 60
    while old.rows() != [0, 0, 0] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (old.rows(), fresh.rows()) == ([0, 0, 0], [1, 1, 2])
    second.gateway.kill()
