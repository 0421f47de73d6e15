"""The database is locked, full, gone or restarted: clients are told to try again, and nothing has to be restarted."""

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from floway_core.storage import keys
from floway_core.storage.db import connect, select
from floway_core.testing import ApiClient, Reply, Step, message_stream
from floway_core.testing.events import parse

from ..support import postgresql
from .raw_client import wait_for

TABLES = ("responses_snapshots", "responses_items", "responses_conversations")


@pytest.fixture
def on(start, call, fake_upstream):
    """Starts a gateway on a database, which is soon out of patience, and makes a client of it."""
    fake_upstream.answer_always("/answers", Reply(message_stream()))

    def make(**settings):
        gateway = start(database_timeout="0.2", **settings)
        return gateway, call(gateway)

    return make


def is_told(ask, refused, code):
    """Assert that every kind of request that needs the database fails in the way that invites another try."""
    answer = ask.create()
    assert answer.headers["retry-after"] == "1"
    refused(answer, 503, code)
    stream = ask.stream()
    if stream.status == 503:
        assert stream.headers["retry-after"] == "1"
        refused(stream, 503, code)
    else:
        error, failed = parse(stream.body)[-2:]
        assert (error["type"], error["code"], failed["type"]) == ("error", code, "response.failed")
        assert failed["response"]["error"]["code"] == code


def goes_on(ask, previous):
    """Assert that a conversation can be continued; return the id of its last response."""
    answer = ask.create("on", previous_response_id=previous)
    assert answer.status == 200, answer.body
    return answer.json()["id"]


def rows(database):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]


def test_a_database_that_another_process_holds(on, refused):
    gateway, ask = on()
    first = ask.create().json()["id"]
    before = rows(gateway.database)
    with contextlib.closing(sqlite3.connect(gateway.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        is_told(ask, refused, "storage_failed")
        assert ask.create(store=False).status == 200
        assert ask.get(f"/v1/responses/{first}").status == 200
        assert (ask.get("/healthz").status, ask.get("/readyz").status) == (200, 200)
        other.execute("ROLLBACK")
    assert rows(gateway.database) == before
    goes_on(ask, first)


# ---------------------------------------------------------------------------------------------------------------- full
@contextlib.contextmanager
def small_disk(gateway):
    """What the gateway writes goes to a file system that is full."""
    filling = gateway.data_dir / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        for size in (2**16, 2**9):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    yield
    filling.unlink()


@contextlib.contextmanager
def quota(gateway):
    """Files of the gateway may not become longer than they are."""
    longest = max(path.stat().st_size for path in (*gateway.data_dir.glob("*.db*[!e]"), gateway.log_file))
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in gateway.workers}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest, hard))
    yield
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


@pytest.fixture
def tiny_folder(tmp_path):
    """A file system of two megabytes."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def is_full_and_recovers(gateway, ask, refused, full):
    first = ask.create().json()["id"]
    with full(gateway):
        before = rows(gateway.database) if full is quota else None
        large = os.urandom(300_000).hex()  # which cannot be compressed to little
        for _ in range(3):
            answer = ask.create(large)
            assert answer.headers["retry-after"] == "1"
            refused(answer, 503, "storage_failed")
        error, failed = parse(ask.stream(large).body)[-2:]
        assert (error["code"], failed["response"]["error"]["code"]) == ("storage_failed", "storage_failed")
        assert ask.create(store=False).status == 200
    assert before is None or rows(gateway.database) == before
    assert rows(gateway.database)[0] == 1
    assert len(ask.get(f"/v1/responses/{goes_on(ask, first)}/input_items").json()["data"]) == 3
    with contextlib.closing(sqlite3.connect(gateway.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_disk_that_is_full(on, refused, tiny_folder):
    gateway, ask = on(data_dir=str(tiny_folder))
    gateway.data_dir = tiny_folder
    is_full_and_recovers(gateway, ask, refused, small_disk)


def test_a_quota_that_is_used_up(on, refused):
    gateway, ask = on()
    is_full_and_recovers(gateway, ask, refused, quota)


# ---------------------------------------------------------------------------------------------------------------- gone
def test_a_file_that_is_gone_and_comes_back(on, refused, tmp_path):
    """A connection to a file that was deleted would take everything, and keep nothing."""
    gateway, ask = on(workers="2")
    first = ask.create().json()["id"]
    files = [path for path in gateway.data_dir.iterdir() if path.name.startswith("floway.db")]
    for path in files:
        shutil.move(path, tmp_path)
    for _ in range(5):
        is_told(ask, refused, "database_unavailable")
    assert (ask.get("/healthz").status, ask.get("/readyz").status) == (200, 503)
    assert not gateway.database.exists()
    for path in files:
        shutil.move(tmp_path / path.name, path)
    second = goes_on(ask, first)
    with (
        contextlib.closing(sqlite3.connect(tmp_path / "backup")) as backup,
        contextlib.closing(sqlite3.connect(gateway.database)) as source,
    ):
        source.backup(backup)
    os.chmod(tmp_path / "backup", 0o600)
    for path in files:
        path.unlink(missing_ok=True)
    shutil.move(tmp_path / "backup", gateway.database)  # restored: another file of the same name
    for _ in range(5):
        second = goes_on(ask, second)
    assert rows(gateway.database)[0] == 7


@pytest.fixture
def own_postgresql():
    with postgresql.or_skip(postgresql.own_server()) as own:
        yield own


def test_a_server_that_is_restarted(on, refused, own_postgresql):
    """Connections from before are not used again: the first request that comes is served."""
    _gateway, ask = on(database_url=own_postgresql.url)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ask.create().json()["id"], range(16)))  # so that the pool has several
    own_postgresql.stop()
    is_told(ask, refused, "database_unavailable")
    assert (ask.get("/healthz").status, ask.get("/readyz").status) == (200, 503)
    own_postgresql.start()
    for response_id in made:
        goes_on(ask, response_id)
    own_postgresql.stop()
    own_postgresql.start()  # with nobody asking in between
    for response_id in made:
        goes_on(ask, response_id)


def test_a_server_that_allows_few_connections(start, call, fake_upstream, own_postgresql):
    """Requests wait for the connections that there are."""
    with contextlib.closing(psycopg2.connect(own_postgresql.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 8")
        cursor.execute("CREATE DATABASE few OWNER few")
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    gateway = start(database_url=own_postgresql.url.replace("floway@/postgres", "few@/few"))
    ask = call(gateway)
    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(lambda _: ask.create().status, range(256))) == {200}


def test_the_log_quotes_no_row_that_the_server_refuses(start, call, refused, own_postgresql):
    """As when an older version of Floway stores something while a newer one has migrated the database."""
    gateway = start(database_url=own_postgresql.url)
    with contextlib.closing(psycopg2.connect(own_postgresql.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("ALTER TABLE responses_conversations ADD COLUMN newer INTEGER NOT NULL")
    answer = call(gateway).post({"metadata": {"topic": "nobody's business"}}, "/v1/conversations")
    refused(answer, 503, "database_unavailable")
    (line,) = gateway.wait_for_log("The database failed: IntegrityError: ")
    assert '"newer"' in line and "business" not in gateway.log


# ----------------------------------------------------------------------------------------- what ends while it is down
@pytest.fixture
def query(own_postgresql):
    """Queries the server of the test."""
    database = connect(own_postgresql.url)
    yield lambda sql: select(database, sql)
    database.close_all()


@pytest.fixture
def held(fake_upstream):
    """The upstream begins its answers, and waits."""
    first, *others = message_stream()

    def script(count):
        fake_upstream.script(*[Reply([first, Step.HOLD, *others])] * count)
        return lambda: [fake_upstream.wait_for_request(number + 1).held.wait(60) for number in range(count)]

    return script


def limited_client(gateway, fake_upstream, url, **limits):
    database = connect(url)
    key = keys.create(database, "limited", limits)
    database.close_all()
    return ApiClient(gateway.url, key, {"x-test-upstream": fake_upstream.url})


def test_what_ends_while_the_server_is_down_is_counted_when_it_is_back(
    start, fake_upstream, held, own_postgresql, query
):
    """Otherwise a key would be at its limit, and a conversation locked, until the leases expire."""
    gateway = start(database_url=own_postgresql.url)
    limits = {"concurrent_requests": 1, "tokens_per_day": 1000}
    ask = limited_client(gateway, fake_upstream, own_postgresql.url, **limits)
    conversation = ask.post({}, "/v1/conversations").json()["id"]
    begun = held(1)
    stream = ask.stream(conversation=conversation)
    begun()
    assert [query(f"SELECT count(*) FROM {table}") for table in ("api_key_leases", "turn_leases")] == [[(1,)]] * 2
    own_postgresql.stop()
    fake_upstream.release.set()
    assert parse(stream.body)[-1]["response"]["error"]["code"] == "storage_failed"
    own_postgresql.start()
    wait_for(lambda: query("SELECT count(*) FROM api_key_leases") == [(0,)])
    wait_for(lambda: query("SELECT count(*) FROM turn_leases") == [(0,)])
    wait_for(lambda: query("SELECT tokens FROM api_key_uses") == [(12,)])
    fake_upstream.script(Reply(message_stream()))
    assert ask.create(conversation=conversation).status == 200


def test_the_end_of_a_background_response_waits_for_the_server(start, call, fake_upstream, held, own_postgresql, query):
    gateway = start(database_url=own_postgresql.url)
    ask = call(gateway)
    begun = held(1)
    response_id = ask.create(background=True).json()["id"]
    begun()
    own_postgresql.stop()
    fake_upstream.release.set()
    gateway.wait_for_log("is not stored yet")
    own_postgresql.start()
    wait_for(lambda: query("SELECT status FROM background_responses") == [("failed",)])
    told = ask.get(f"/v1/responses/{response_id}").json()
    assert told["error"]["code"] == "storage_failed"
    assert query("SELECT count(*) FROM turn_leases") == [(0,)]


def test_a_lease_that_expires_while_the_server_is_down_is_not_held_against_it(
    start, call, fake_upstream, held, own_postgresql, query
):
    """Its worker could not renew it, and does so soon. The timeout is the time that a reader allows for it."""
    ask = call(start(database_url=own_postgresql.url, database_timeout="60"))
    begun = held(1)
    response_id = ask.create(background=True).json()["id"]
    begun()
    own_postgresql.stop()
    assert ask.get(f"/v1/responses/{response_id}").status == 503
    own_postgresql.start()
    query("UPDATE turn_leases SET expires_at = EXTRACT(EPOCH FROM now()) - 30 RETURNING 1")
    assert ask.get(f"/v1/responses/{response_id}").json()["status"] in ("queued", "in_progress")
    fake_upstream.release.set()
    wait_for(lambda: ask.get(f"/v1/responses/{response_id}").json()["status"] == "completed")


def test_the_log_tells_which_usage_is_lost(start, call, fake_upstream, held, own_postgresql):
    gateway = start(database_url=own_postgresql.url)
    ask = call(gateway)
    begun = held(1)
    stream = ask.stream(store=False)
    begun()
    own_postgresql.stop()
    fake_upstream.release.set()
    assert parse(stream.body)[-1]["type"] == "response.completed"
    (line,) = gateway.wait_for_log("Usage cannot be stored, and waits in memory: ")
    assert "connection" in line
    assert gateway.stop() == 0
    assert "The usage of 1 requests is lost" in gateway.log
    own_postgresql.start()
