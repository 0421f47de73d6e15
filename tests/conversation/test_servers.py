"""Several workers and several hosts on one database."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core.storage.db import connect, select

from ..support.pgbouncer import POOL_SIZE, pgbouncer
from .direct_store import user


@pytest.fixture(scope="module")
def two_workers(start_acting, new_database):
    """A gateway with two workers."""
    return start_acting(new_database(), workers="2")


def converse_in_turns(client, number):
    """Have a conversation of four turns, and check each; yields before each of them."""
    expected, previous = [], None
    for turn in range(4):
        yield
        told = client.turn(f"{number}.{turn}", previous)
        expected.append(user(f"{number}.{turn}"))
        assert told.sent == [expected]
        expected += told.output
        previous = told.id


def test_sixty_four_conversations_at_once(client_of, two_workers):
    """Nobody is turned away because the database is busy; every id can be continued from either worker."""
    client = client_of(two_workers)
    gate = threading.Barrier(64, timeout=60)

    def converse(number):
        for _ in converse_in_turns(client, number):
            gate.wait()  # all 64 commit at the same time

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(converse, range(64)))
    assert client.rows() == [64, 256, 512]


def test_sixty_four_forks_of_one_response(client_of, two_workers):
    client = client_of(two_workers)
    root = client.turn("One")
    gate = threading.Barrier(64, timeout=60)

    def fork(number):
        gate.wait()
        early = {"x-test-claim": "early"} if number % 2 else {}
        told = client.turn(f"fork {number}", root.id, headers=early)
        assert told.sent == [[user("One"), *root.output, user(f"fork {number}")]]
        return told

    with ThreadPoolExecutor(64) as pool:
        forks = list(pool.map(fork, range(64)))
    assert sorted(told.commit["ordinal"] for told in forks) == list(range(1, 65))
    for number, told in enumerate(forks):
        assert client.turn("on", told.id).sent == [
            [user("One"), *root.output, user(f"fork {number}"), *told.output, user("on")]
        ]


def test_two_hosts_continue_each_others_conversations(start_acting, new_postgresql, client_of):
    """Two servers of two workers each, on two ports; what they share is a PostgreSQL database."""
    url = new_postgresql()
    hosts = [start_acting(url, workers="2"), start_acting(url, workers="2")]
    here = client_of(hosts[0])
    there = client_of(hosts[1], here.caller.headers["authorization"].removeprefix("Bearer "))
    expected, previous = [], None
    for number in range(20):
        told = (here, there)[number % 2].turn(str(number), previous, stream=number % 3 == 0)
        expected.append(user(str(number)))
        assert told.sent == [expected]
        expected += told.output
        previous = told.id
        assert (there, here)[number % 2].caller.get(f"/v1/responses/{previous}").json() == told.response
    forks = [client.turn("fork", previous).commit["ordinal"] for client in (here, there, here)]
    assert forks == [1, 2, 3]
    assert there.caller.send("DELETE", f"/v1/responses/{previous}").status == 200
    assert here.ask("x", previous_response_id=previous).error["code"] == "previous_response_not_found"
    for host in hosts:
        host.gateway.kill()


@pytest.fixture(scope="module")
def bouncer(new_postgresql):
    """The URLs of a database and of the same database through PgBouncer in transaction mode."""
    url = new_postgresql()
    try:
        with pgbouncer(url) as pooled:
            yield url, pooled
    except FileNotFoundError as reason:
        pytest.skip(str(reason))


def test_pgbouncer_shares_few_connections_among_workers(bouncer, start_acting, client_of):
    """The transactions of one worker, and of its migrations, run on several connections of the server."""
    url, pooled = bouncer
    client = client_of(start_acting(pooled, workers="4"))
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: list(converse_in_turns(client, number)), range(32)))
    assert client.rows() == [32, 128, 256]
    database = connect(url)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    [(count,)] = select(database, query)
    database.close_all()
    assert 1 <= count <= POOL_SIZE
