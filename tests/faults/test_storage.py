"""What one key stores and draws from the store: limits of the input, quotas, deletion on a full disk and in bulk."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from floway_core.storage import keys
from floway_core.storage.db import connect
from floway_core.testing import ApiClient, Reply, message_stream

from .conftest import fill
from .raw_client import wait_for

pytestmark = pytest.mark.soak  # long: many processes, or waits

MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def answers(fake_upstream):
    fake_upstream.answer_always("/answers", Reply(message_stream()))


def peak_memory(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def last_item(ask, response_id):
    """The id of the input item of a response."""
    return ask.get(f"/v1/responses/{response_id}/input_items").json()["data"][0]["id"]


# ------------------------------------------------------------------------------------------------------ resolved input
@pytest.mark.parametrize("in_history", [False, True], ids=["another conversation", "the same conversation"])
@pytest.mark.parametrize("content", ["compressible", "random"])
def test_an_item_that_is_named_many_times_is_refused(start, call, refused, fake_upstream, content, in_history):
    """It is neither built nor sent: a request of 10 KB would become one of 1.6 GB."""
    gateway = start()
    ask, (worker,) = call(gateway), gateway.workers
    text = "x" * 8 * MEBIBYTE if content == "compressible" else os.urandom(4 * MEBIBYTE).hex()
    response_id = ask.create([{"role": "user", "content": text}]).json()["id"]
    reference = {"type": "item_reference", "id": last_item(ask, response_id)}
    sent, before = len(fake_upstream.requests), peak_memory(worker)
    fields = {"previous_response_id": response_id} if in_history else {}
    message = refused(ask.create([reference] * 200, **fields), 400, "input_too_large", "input")
    assert str(128 * MEBIBYTE) in message
    assert len(fake_upstream.requests) == sent
    assert peak_memory(worker) - before < 100 * MEBIBYTE
    assert ask.create([reference] * 2, **fields).status == 200


def test_a_history_that_has_become_too_large_is_refused(start, call, refused):
    """Whether it is cached or not, and whether its size is stored or not, as in conversations of older versions."""
    limit = 7 * MEBIBYTE // 2
    gateway = start(max_input_bytes=str(limit))
    ask, previous = call(gateway), None
    for _ in range(4):
        answer = ask.create("x" * MEBIBYTE, previous_response_id=previous)
        assert answer.status == 200
        before, previous = previous, answer.json()["id"]
    refused(ask.create("on", previous_response_id=previous), 400, "input_too_large", "input")
    assert ask.create("on", previous_response_id=before).status == 200
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection, connection:
        connection.execute("UPDATE responses_snapshots SET history_bytes = NULL")
    refused(ask.create("on", previous_response_id=previous), 400, "input_too_large", "input")
    (worker,) = gateway.workers
    os.kill(worker, signal.SIGKILL)  # and with it the cache
    wait_for(lambda: worker not in gateway.workers and gateway.workers)
    refused(ask.create("on", previous_response_id=previous), 400, "input_too_large", "input")
    assert ask.create("on", previous_response_id=before).status == 200


def test_an_unstored_history_has_the_same_limit(start, websocket):
    client, previous = websocket(start(max_input_bytes=str(MEBIBYTE))), None
    for _ in range(2):
        before, previous = (
            previous,
            client.turn("x" * (MEBIBYTE // 2), store=False, previous_response_id=previous)["id"],
        )
    client.refused(400, "input_too_large", store=False, previous_response_id=previous)
    client.turn("on", store=False, previous_response_id=before)


# -------------------------------------------------------------------------------------------------------------- quotas
def test_a_quota_of_stored_bytes(start, call, refused, fake_upstream):
    gateway = start(max_stored_bytes=str(MEBIBYTE))
    ask, stored = call(gateway), []
    while (answer := ask.create(os.urandom(100_000).hex())).status == 200:
        stored.append(answer.json()["id"])
        assert len(stored) < 20
    message = refused(answer, 507, "storage_quota_exceeded")
    assert answer.headers["x-should-retry"] == "false" and "DELETE" in message and str(MEBIBYTE) in message
    assert len(fake_upstream.requests) == len(stored), "what cannot be stored is not paid for"
    assert ask.create(store=False).status == 200
    assert ask.get(f"/v1/responses/{stored[0]}").status == 200
    for response_id in stored[:3]:
        assert ask.send("DELETE", f"/v1/responses/{response_id}").status == 200
    assert ask.create(os.urandom(100_000).hex()).status == 200
    for response_id in stored[3:]:
        assert ask.send("DELETE", f"/v1/responses/{response_id}").status == 200
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
        ((left,),) = connection.execute("SELECT SUM(stored_bytes) FROM responses_conversations").fetchall()
    assert 100_000 < left < 150_000, "the one response that is left"


def test_a_key_may_have_a_quota_of_its_own(start, call, refused):
    gateway = start()
    ask = call(gateway)
    assert ask.create().status == 200
    assert gateway.run("keys", "change", "test", "--stored-bytes", "1").returncode == 0
    assert "1 stored bytes" in gateway.run("keys", "list").stdout
    refused(ask.create(), 507, "storage_quota_exceeded")
    assert gateway.run("keys", "change", "test", "--clear", "stored-bytes").returncode == 0
    assert ask.create().status == 200


# ----------------------------------------------------------------------------------------------------------- full disk
def test_responses_can_be_deleted_on_a_full_disk(start, call, refused, mount_small_folder):
    """And what they free can be used again, without help from outside."""
    small_folder = mount_small_folder(12)
    gateway = start(data_dir=str(small_folder), database_timeout="1")
    wait_for((small_folder / "floway.db-reserve").exists)
    ask = call(gateway)
    stored = [ask.create(os.urandom(500_000).hex()).json()["id"] for _ in range(3)]
    fill(small_folder)
    while (answer := ask.create(os.urandom(100_000).hex())).status == 200:
        fill(small_folder)
    refused(answer, 503, "storage_failed")
    for response_id in stored:
        assert ask.send("DELETE", f"/v1/responses/{response_id}").status == 200, gateway.log
        assert ask.get(f"/v1/responses/{response_id}").status == 404
    assert ask.create(os.urandom(100_000).hex()).status == 200
    (small_folder / "filling").unlink()
    with contextlib.closing(sqlite3.connect(small_folder / "floway.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# ------------------------------------------------------------------------------------------------- deleting a whole key
ITEMS = 30_000


@pytest.fixture
def filled_key(start, call, fake_upstream):
    """A gateway, a client whose key has stored much, and a client with another key."""
    gateway = start(workers="1", admin_token="a-token-of-an-admin")
    ask = call(gateway)
    assert ask.create("x" * 1000).status == 200
    database = connect(f"sqlite:///{gateway.database}")
    other = keys.create(database, "other")
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(responses_items)")]
        values = ", ".join(
            {"id": "NULL", "position": "number", "item_id": "'msg_' || number", "payload": "randomblob(2000)"}.get(
                name, name
            )
            for name in columns
        )
        connection.execute(
            f"WITH RECURSIVE numbers (number) AS (SELECT 100 UNION ALL SELECT number + 1 FROM numbers "
            f"WHERE number < {ITEMS + 100}) INSERT INTO responses_items ({', '.join(columns)}) "
            f"SELECT {values} FROM (SELECT * FROM responses_items LIMIT 1), numbers"
        )
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return gateway, ask, ApiClient(gateway.url, other, {"x-test-upstream": fake_upstream.url})


def count(gateway, table):
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
        return connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]


def wal_size(gateway):
    return Path(f"{gateway.database}-wal").stat().st_size


def test_deleting_a_key_holds_nobody_up(filled_key, refused):
    gateway, ask, other = filled_key
    done = threading.Event()
    status = []

    def delete():
        admin = ApiClient(gateway.url, "a-token-of-an-admin")
        status.append(admin.send("DELETE", "/admin/api/keys/test").status)
        done.set()

    thread = threading.Thread(target=delete)
    thread.start()
    wait_for(lambda: ask.create().status == 401)
    was_running, slowest, largest = not done.is_set(), 0, 0
    while not done.is_set():
        started = time.monotonic()
        assert other.create().status == 200
        slowest, largest = max(slowest, time.monotonic() - started), max(largest, wal_size(gateway))
    thread.join()
    assert was_running and status == [204]
    assert slowest < 3, "one transaction for all of it would take longer than that on most machines"
    assert largest < 64 * MEBIBYTE
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
        assert connection.execute("SELECT name FROM api_keys").fetchall() == [("other",)]
        left = connection.execute("SELECT DISTINCT api_key_id FROM responses_items").fetchall()
        assert left == connection.execute("SELECT id FROM api_keys").fetchall()


def test_a_deletion_that_was_killed_is_finished(filled_key):
    """The key is refused, its name is free, and the next start removes what is left."""
    gateway, ask, _ = filled_key
    arguments = [sys.executable, "-m", "floway_core", "keys", "delete", "test", "--yes"]
    command = subprocess.Popen(arguments, env=gateway.environ, cwd=gateway.folder, stderr=subprocess.DEVNULL)
    wait_for(lambda: ask.create().status == 401)
    command.kill()
    command.wait()
    assert count(gateway, "responses_items") > 0
    assert "test" not in gateway.run("keys", "list").stdout
    assert gateway.run("keys", "create", "test").returncode == 0
    assert gateway.run("retention", "run").returncode == 0
    assert (count(gateway, "responses_items"), count(gateway, "api_keys")) == (0, 2)
