"""Limits of API keys on running gateways, over two hosts, however requests and workers end."""

import os
import signal
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import replace

import pytest

from floway_core.runtime import plugins
from floway_core.runtime.gateway import open_gateway, read_settings
from floway_core.storage import keys, limits, upstreams
from floway_core.storage.db import connect, select
from floway_core.storage.leases import Leases
from floway_core.testing import ApiClient, FakeUpstream, Reply, RunningGateway, Step, message_stream
from floway_core.web.app import build_app

from ..conversation.direct_store import execute
from ..plugins import wire
from ..support.stored_upstreams import add_upstreams


class Hosts:
    """Two gateways on one database, and clients of them."""

    def __init__(self, url, gateways, upstream):
        self.database = connect(url)
        self.gateways = gateways
        self.upstream = upstream

    def callers(self, **options):
        """A client of each with one new key."""
        key = keys.create(self.database, uuid.uuid4().hex, options)
        return [ApiClient(gateway.url, key, {"x-test-upstream": self.upstream.url}) for gateway in self.gateways]

    def count(self, table):
        ((rows,),) = select(self.database, f"SELECT COUNT(*) FROM {table}")
        return rows


@pytest.fixture(scope="module")
def two_gateways(new_database, plugin_folder, journal_file):
    url = new_database()
    database, running = connect(url), []
    try:
        for _ in range(2):
            environ = {"TEST_JOURNAL": str(journal_file)}
            running.append(RunningGateway({"database_url": url}, plugin_folders=[plugin_folder], environ=environ))
            execute(database, "UPDATE api_keys SET name = ? WHERE name = 'test'", uuid.uuid4().hex)
        add_upstreams(running[0], first="wire")
        yield url, running
    finally:
        for gateway in running:
            gateway.__exit__()
        database.close_all()


@pytest.fixture
def hosts(two_gateways, fake_upstream):
    hosts = Hosts(*two_gateways, fake_upstream)
    yield hosts
    hosts.database.close_all()


def always(hosts, stream=True, headers=()):
    kind = [("content-type", "text/event-stream")]
    hosts.upstream.answer_always("/answers", Reply(message_stream(), headers=[*kind, *headers]))


@pytest.mark.parametrize("stream", [True, False])
def test_two_hosts_that_race_for_requests(hosts, stream, refused):
    always(hosts)
    callers = hosts.callers(requests_per_minute=2)  # the next one comes back in 30 seconds
    gate = threading.Barrier(16, timeout=60)

    def race(number):
        gate.wait()
        answer = callers[number % 2].create(stream=stream)
        assert answer.body and answer.headers["x-ratelimit-limit-requests"] == "2"
        return answer

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(race, range(16)))
    assert sorted(answer.status for answer in answers) == [200] * 2 + [429] * 14
    left = sorted(answer.headers["x-ratelimit-remaining-requests"] for answer in answers)
    assert left == [*["0"] * 15, "1"]
    late = callers[0].create(stream=stream)
    assert refused(late, 429, "rate_limit_exceeded", type="rate_limit_error").startswith(
        "Rate limit reached: 2 requests"
    )
    assert 1 <= int(late.headers["retry-after"]) <= 30
    assert callers[1].get("/v1/models").status == 200  # reading is not limited


def test_two_hosts_that_race_for_places(hosts, refused):
    hosts.upstream.answer_always("/answers", Reply(message_stream(), before=[Step.HOLD]))
    callers = hosts.callers(concurrent_requests=3)
    gate = threading.Barrier(12, timeout=60)

    def race(number):
        gate.wait()
        answer = callers[number % 2].create(stream=number % 3 > 0)
        assert answer.body
        return answer

    with ThreadPoolExecutor(12) as pool:
        answers = as_completed([pool.submit(race, number) for number in range(12)])
        for _ in range(9):  # who is let in has to wait
            rejected = next(answers).result()
            refused(rejected, 429, "rate_limit_exceeded", type="rate_limit_error")
            assert rejected.headers["retry-after"] == "1"
        hosts.upstream.release.set()
        assert [answer.result().status for answer in answers] == [200] * 3
    assert len(hosts.upstream.requests) == 3
    assert hosts.count("api_key_leases") == 0


@pytest.mark.parametrize("stream", [True, False])
def test_one_request_after_the_other_is_one_at_a_time(hosts, stream):
    """A client that has been told the end may ask again at once."""
    always(hosts)
    callers = hosts.callers(concurrent_requests=1)
    for number in range(20):
        answer = callers[number % 2].create(stream=stream)
        if stream:
            answer.read_until(b"response.completed")
        assert answer.status == 200 and (stream or answer.body)


def test_however_a_request_ends_its_place_is_free_again(hosts, refused):
    caller, _ = hosts.callers(concurrent_requests=1)
    refused(caller.post(b"not JSON"), 400, "invalid_json")
    refused(caller.create(model="unknown"), 404, "model_not_found", "model")
    refused(caller.create(previous_response_id="resp_0"), 400, "previous_response_not_found", "previous_response_id")
    hosts.upstream.script(
        Reply([b"{}"], 400, framing="length"),
        Reply(message_stream()[:2]),
        Reply(message_stream()[:2]),
        Reply(message_stream(), before=[Step.HOLD]),
        Reply([*message_stream()[:1], Step.HOLD]),
    )
    refused(caller.create(), 400, "upstream_refused")
    refused(caller.create(), 502, "upstream_disconnected")
    assert caller.stream().events()[-1]["type"] == "response.failed"
    for number, stream in ((4, False), (5, True)):
        abandoned = caller.create(stream=stream)
        hosts.upstream.wait_for_request(number)
        abandoned.hang_up()
        assert hosts.upstream.requests[-1].peer_gone.wait(60)
        deadline = time.monotonic() + 60
        while hosts.count("api_key_leases"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    always(hosts)
    assert caller.create().status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_that_answers_cost(hosts, stream, refused):
    """The next request knows what the last one cost, on whichever host."""
    always(hosts)
    callers = hosts.callers(tokens_per_day=20)
    told = []
    for number in range(2):  # each costs 12
        answer = callers[number].create(stream=stream)
        assert answer.status == 200 and (answer.read_until(b"response.completed") if stream else answer.body)
        told.append(answer.headers["x-ratelimit-remaining-tokens"])
    assert told == ["20", "8"]
    late = callers[0].create(stream=stream)
    assert "20 tokens per day" in refused(late, 429, "rate_limit_exceeded", type="rate_limit_error")
    assert late.headers["x-ratelimit-remaining-tokens"] == "0" and int(late.headers["retry-after"]) <= 86_400
    assert len(hosts.upstream.requests) == 2


@pytest.mark.parametrize("path", ["/responses", "/v1/responses", "/v1/responses/compact", "/responses/compact"])
def test_what_is_limited(hosts, path, refused):
    caller, _ = hosts.callers(requests_per_minute=1)
    refused(caller.post({}, path), 400, "missing_required_parameter", "model")
    refused(caller.post({}, path), 429, "rate_limit_exceeded", type="rate_limit_error")
    for read in ("/v1/models", "/v1/responses/resp_0", "/v1/responses"):
        assert caller.get(read).status in (200, 404, 426)


def test_limits_of_the_upstream_give_way_to_those_of_the_key(hosts):
    theirs = [("x-ratelimit-limit-tokens", "9"), ("X-RateLimit-Remaining-Requests", "9"), ("x-quota", "9")]

    def shown(answer):
        return {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("x-ratelimit")}

    for status in (200, 429):
        hosts.upstream.answer_always("/answers", Reply(message_stream() if status == 200 else [b"{}"], status, theirs))
        limited, plain, counted = (
            hosts.callers(**options)[0].create()
            for options in ({"requests_per_minute": 2}, {}, {"concurrent_requests": 2})
        )
        assert {answer.status for answer in (limited, plain, counted)} == {status}
        assert shown(plain) == shown(counted) == {name.lower(): value for name, value in theirs[:2]}
        assert set(shown(limited)) == {f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset")}
        assert limited.headers["x-quota"] == "9"


def test_a_key_without_limits_leaves_no_trace(hosts):
    always(hosts)
    before = hosts.count("api_key_uses")
    assert hosts.callers(models=["model-1"])[0].create().status == 200
    assert (hosts.count("api_key_uses"), hosts.count("api_key_leases")) == (before, 0)


def test_a_key_that_has_expired(hosts, refused):
    caller, there = hosts.callers(expires_at=int(time.time()) + 3600)
    assert caller.get("/v1/models").status == 200
    execute(hosts.database, "UPDATE api_keys SET expires_at = ? WHERE expires_at IS NOT NULL", 1_700_000_000)
    for answer in (there.get("/v1/models"), caller.create(), caller.get("/v1/responses/resp_0")):
        assert refused(answer, 401, "invalid_api_key") == "The API key expired at 2023-11-14 22:13:20 UTC."


def test_a_killed_worker_leaves_its_places_for_a_term(start_wired, fake_upstream, refused):
    """The other worker goes on; what ran in the killed one counts until its lease lapses, and no longer."""
    gateway = start_wired(workers="2")
    database = connect(f"sqlite:///{gateway.database}")
    fake_upstream.script(Reply([*message_stream()[:1], Step.HOLD]), Reply(message_stream()))
    key = keys.create(database, "killed", {"concurrent_requests": 1})
    caller = ApiClient(gateway.url, key, {"x-test-upstream": fake_upstream.url})
    cut = caller.stream()
    cut.read_until(b"\n\n")
    for pid in gateway.worker_processes:
        os.kill(pid, signal.SIGKILL)
    assert fake_upstream.requests[0].peer_gone.wait(60)
    refused(patiently(caller), 429, "rate_limit_exceeded", type="rate_limit_error")
    ((expires_at,),) = select(database, "SELECT expires_at FROM api_key_leases")
    assert expires_at <= time.time() + limits.LEASE_SECONDS
    execute(
        database, "UPDATE api_key_leases SET expires_at = expires_at - ?", limits.LEASE_SECONDS
    )  # as if it had passed
    assert caller.create().status == 200
    database.close_all()


def test_no_stream_waits_while_another_is_counted(start_wired, fake_upstream):
    gateway = start_wired(database_timeout="60")
    key = gateway.run("keys", "create", "limited", "--concurrent", "5").stdout.strip()
    first, *others = message_stream()
    with (
        FakeUpstream() as upstream_of_other,
        closing(sqlite3.connect(gateway.database, isolation_level=None)) as database,
    ):
        ending = ApiClient(gateway.url, key, {"x-test-upstream": fake_upstream.url})
        running = ApiClient(gateway.url, gateway.key, {"x-test-upstream": upstream_of_other.url})
        fake_upstream.script(Reply([first, Step.HOLD, b"".join(others)]))
        upstream_of_other.script(Reply([first, Step.HOLD, *others]))
        streams = [ending.stream(store=False), running.stream(store=False)]
        for stream in streams:
            stream.read_until(b"response.created")
        database.execute("BEGIN IMMEDIATE")
        fake_upstream.release.set()
        upstream_of_other.release.set()
        assert streams[1].body.endswith(b"data: [DONE]\n\n")
        database.execute("ROLLBACK")
        assert streams[0].body.endswith(b"data: [DONE]\n\n")


def test_a_running_request_keeps_its_lease(tmp_path, monkeypatch, fake_upstream):
    """In this process, to renew more often than a test could wait for."""
    monkeypatch.setenv("TEST_JOURNAL", str(tmp_path / "journal"))
    manager = plugins.build_plugin_manager(only=())
    manager.register(wire, "wire")
    gateway = open_gateway(read_settings(manager, {"FLOWAY_DATA_DIR": str(tmp_path)}), manager)
    database = gateway.services.database
    app = build_app(replace(gateway, leases=Leases(database, interval=0.01)), manager)
    upstreams.add(database, "wire", "first")
    headers = {
        "authorization": f"Bearer {keys.create(database, 'limited', {'concurrent_requests': 1})}",
        "x-test-upstream": fake_upstream.url,
    }
    fake_upstream.script(Reply([*message_stream()[:1], Step.HOLD, *message_stream()[1:]]))
    body = {"model": "model-1", "input": "Hi", "stream": True}
    with app.test_client().post("/v1/responses", json=body, headers=headers) as answer:
        pieces = answer.iter_encoded()
        assert b"response.created" in next(pieces)
        execute(database, "UPDATE api_key_leases SET expires_at = 5")
        deadline = time.monotonic() + 60
        while select(database, "SELECT expires_at FROM api_key_leases") == [(5,)]:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        fake_upstream.release.set()
        assert b"response.completed" in b"".join(pieces)
        assert select(database, "SELECT expires_at FROM api_key_leases") == []
    database.close_all()


def patiently(caller):
    """An answer, as soon as a new worker is there to give it."""
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = caller.create()
            assert answer.status
            return answer
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
