"""PostgreSQL does not answer: it is frozen, a table is locked, or the network swallows packets."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest

from floway_core.testing import ApiClient, Reply, RunningGateway, message_stream, write_plugin

from ..support import postgresql
from ..support.stored_upstreams import add_upstreams
from ..support.tcp_proxy import TcpProxy
from .raw_client import wait_for

pytestmark = pytest.mark.soak  # long: many processes, or waits

TIMEOUT = 1.0
"""Seconds, as ``FLOWAY_DATABASE_TIMEOUT``."""

PATIENCE = 6.0
"""Seconds in which everything is answered: a request waits for a connection, for a statement, and for its client, and
the machine may be busy. Without timeouts it would take as long as the database is silent."""

CLIENTS = 48
"""More than there are connections in the pool."""


@pytest.fixture
def server():
    with postgresql.or_skip(postgresql.own_server()) as own:
        yield own


def folder(server):
    return Path(parse_qs(urlsplit(server.url).query)["host"][0])


def is_answered(ask, refused, previous):
    """Assert that many requests at once are refused in time, and that health is told in time meanwhile."""

    def send(number):
        started = time.monotonic()
        answer = ask.create("on", previous_response_id=previous)
        return answer.status, answer, time.monotonic() - started

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(send, number) for number in range(CLIENTS)]
        started = time.monotonic()
        assert refused(ask.get("/readyz"), 503, "database_unavailable")
        assert time.monotonic() - started < 2 * TIMEOUT
        assert ask.get("/healthz").status == 200
        for status, answer, duration in [each.result() for each in running]:
            assert status == 503 and answer.headers["retry-after"] == "1", answer.body
            assert duration < PATIENCE


def works_again(ask, previous):
    wait_for(lambda: ask.get("/readyz").status == 200)
    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = [pool.submit(ask.create, "on", previous_response_id=previous) for _ in range(CLIENTS)]
        assert {each.result().status for each in sent} == {200}


@pytest.fixture
def begun(start, call, fake_upstream):
    """Starts a gateway with a conversation: its client, and the id of the response."""
    fake_upstream.answer_always("/answers", Reply(message_stream()))

    def make(url):
        ask = call(start(database_url=url, database_timeout=str(TIMEOUT)))
        first = ask.create().json()["id"]
        works_again(ask, first)  # so that the pool is full of connections
        return ask, first

    return make


@contextlib.contextmanager
def frozen(server):
    """All processes of the server are stopped."""
    parent = int((folder(server) / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    processes = [parent, *map(int, children)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(processes):
            os.kill(pid, signal.SIGCONT)


def test_a_server_that_is_frozen(begun, refused, server):
    ask, first = begun(server.url)
    with frozen(server):
        is_answered(ask, refused, first)
    works_again(ask, first)


def test_a_table_that_is_locked(begun, refused, server):
    """The lock is held until all have been answered."""
    ask, first = begun(server.url)
    with contextlib.closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE responses_snapshots, responses_conversations, upstreams IN ACCESS EXCLUSIVE MODE")
        is_answered(ask, refused, first)
    works_again(ask, first)


def test_a_network_that_swallows_packets(begun, refused, server):
    with TcpProxy(f"{folder(server)}/.s.PGSQL.5432") as proxy:
        ask, first = begun(f"postgresql://floway@127.0.0.1:{proxy.port}/postgres")
        proxy.swallow()
        is_answered(ask, refused, first)
        proxy.forward()
        works_again(ask, first)


def test_metrics_are_told_before_prometheus_gives_up(start, call, server):
    """Whatever the database timeout is: they say what the database does not."""
    ask = call(start(database_url=server.url, database_timeout="60", metrics="open"))
    assert ask.get("/metrics").status == 200
    with frozen(server):
        started = time.monotonic()
        told = ask.get("/metrics")
        assert told.status == 200 and b"floway_requests_total" in told.body
        assert time.monotonic() - started < 10


FREEZING = """

@hookimpl
def on_snapshot_commit(ctx):
    if ctx.attempt.request.headers.get("x-test-freeze"):
        os.killpg(0, 19)  # SIGSTOP, with an open transaction
"""


def test_a_host_that_is_frozen_while_it_stores_a_response(fake_upstream, server, tmp_path):
    """It holds locks; another host goes on nevertheless, and what was not stored is stored by neither."""
    fake_upstream.answer_always("/answers", Reply(message_stream()))
    settings = {"database_url": server.url, "database_timeout": str(TIMEOUT)}
    wire = Path(__file__).parents[1] / "plugins" / "wire.py"
    write_plugin(tmp_path, "wire", wire.read_text() + FREEZING)
    with RunningGateway(settings, plugin_folders=[tmp_path], environ={"TEST_JOURNAL": os.devnull}) as freezing:
        add_upstreams(freezing, first="wire")
        here = ApiClient(freezing.url, freezing.key, {"x-test-upstream": fake_upstream.url})
        first = here.create().json()["id"]
        frozen_request = here.post(
            {"model": "model-1", "input": "on", "previous_response_id": first}, x_test_freeze="1"
        )
        status = Path(f"/proc/{freezing.process.pid}/stat")
        wait_for(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")
        with contextlib.closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("UPDATE api_keys SET name = 'here'")  # the other host makes its own
        with RunningGateway(settings, plugin_folders=[tmp_path], environ={"TEST_JOURNAL": os.devnull}) as there:
            ask = ApiClient(there.url, freezing.key, here.headers)
            wait_for(lambda: ask.create("on", previous_response_id=first).status == 200)
            os.killpg(freezing.process.pid, signal.SIGCONT)
            assert frozen_request.status == 503 and b"storage_failed" in frozen_request.body
