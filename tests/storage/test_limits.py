"""Limits of API keys in the database: admission and reported values under races and clock jumps."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import peewee
import pytest

from floway_core.errors import GatewayError
from floway_core.storage import keys, limits
from floway_core.storage.db import select
from floway_core.storage.leases import Leases
from floway_core.web import limits as letting_in

from ..conversation.direct_store import execute

NOON = 1_900_000_000 // 86_400 * 86_400 + 43_200


@pytest.fixture
def new_key(database):
    """Makes a key and returns it as requests are authenticated with it."""

    def make(**options):
        return keys.recognise(database, keys.create(database, uuid.uuid4().hex, options))

    return make


@pytest.fixture
def enter(database):
    """Lets a request in. Returns the headers, or the error."""

    def enter(key, request_id=None):
        try:
            return limits.admit(database, key, request_id or uuid.uuid4().hex)
        except GatewayError as error:
            return error

    return enter


def let_in(*outcomes):
    return [not isinstance(outcome, GatewayError) for outcome in outcomes]


@pytest.mark.parametrize("allowance", [1, 7, 60])
def test_an_allowance_of_requests_and_how_it_comes_back(new_key, enter, clock, allowance):
    key = new_key(requests_per_minute=allowance)
    assert let_in(*(enter(key) for _ in range(allowance + 2))) == [True] * allowance + [False] * 2
    wait = int(enter(key).headers["retry-after"])
    assert wait == -(-60 // allowance)
    clock.now += 60 / allowance - 0.1
    assert let_in(enter(key)) == [False]
    clock.now += 0.1
    assert let_in(enter(key), enter(key)) == [True, False]
    clock.now += 3600
    assert let_in(*(enter(key) for _ in range(allowance + 1))) == [True] * allowance + [False]


def test_what_is_told_about_requests(new_key, enter, clock):
    key = new_key(requests_per_minute=3)
    told = [enter(key) for _ in range(3)]
    assert [list(headers.values()) for headers in told] == [["3", "2", "20s"], ["3", "1", "40s"], ["3", "0", "1m0s"]]
    assert list(told[0]) == [f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset")]
    refused = enter(key)
    assert (refused.status, refused.type, refused.code) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert refused.message == "Rate limit reached: 3 requests per minute. Please try again in 20s."
    assert refused.headers == {**told[2], "retry-after": "20"}
    clock.now += 19.99
    assert (enter(key).headers["retry-after"], enter(key).message[-5:]) == ("1", "10ms.")


def test_tokens_of_a_day(database, new_key, enter, clock):
    key = new_key(tokens_per_day=100)
    assert list(enter(key).values()) == ["100", "100", "12h0m0s"]
    limits.release(database, key, "r", 60)
    assert enter(key)["x-ratelimit-remaining-tokens"] == "40"
    limits.release(database, key, "r", 60)  # what a request costs shows when it has ended
    clock.now += 43_200 - 61.5
    refused = enter(key)
    assert refused.message == "Rate limit reached: 100 tokens per day (UTC). Please try again in 1m1.5s."
    assert list(refused.headers.values()) == ["100", "0", "1m1.5s", "62"]
    clock.now += 61.5
    assert list(enter(key).values()) == ["100", "100", "24h0m0s"]
    limits.release(database, key, "r", 7)
    assert enter(key)["x-ratelimit-remaining-tokens"] == "93"


def test_requests_at_a_time(database, new_key, enter, clock):
    key = new_key(concurrent_requests=2)
    assert (enter(key, "one"), enter(key, "two")) == ({}, {})
    refused = enter(key)
    assert refused.message == "Rate limit reached: 2 requests at a time. Please try again when one of them has ended."
    assert refused.headers == {"retry-after": "1"}
    limits.release(database, key, "one", 0)
    assert let_in(enter(key, "three"), enter(key)) == [True, False]
    clock.now += limits.LEASE_SECONDS - 1
    limits.renew(database, ["two", "long gone"])
    clock.now += 2  # nobody renewed the third: its worker is gone
    assert let_in(enter(key, "four"), enter(key)) == [True, False]
    for request_id in ("two", "four"):
        limits.release(database, key, request_id, 0)
    clock.now += limits.ABANDONED_AFTER_SECONDS
    assert let_in(enter(key, "five")) == [True]
    assert select(database, "SELECT id FROM api_key_leases WHERE api_key_id = ?", key.id) == [("five",)]
    limits.release(database, key, "five", 0)


def test_a_worker_that_was_held_up_has_its_leases_again(database, new_key, enter, clock):
    key = new_key(concurrent_requests=1)
    enter(key, "held up")
    clock.now += limits.LEASE_SECONDS + 1
    assert let_in(enter(key, "another")) == [True]
    limits.release(database, key, "another", 0)
    limits.renew(database, ["held up"])
    assert let_in(enter(key)) == [False]
    limits.release(database, key, "held up", 0)


def test_what_one_limit_refuses_uses_nothing_of_another(database, new_key, enter, clock):
    key = new_key(requests_per_minute=3, concurrent_requests=1)
    assert let_in(enter(key, "a"), enter(key), enter(key)) == [True, False, False]
    limits.release(database, key, "a", 0)
    assert enter(key, "b")["x-ratelimit-remaining-requests"] == "1"
    limits.release(database, key, "b", 0)


@pytest.mark.parametrize("jump", [-30, -400, -3600, -(10**9), 3600, 10**9])
def test_a_clock_that_jumps_locks_nobody_out(database, new_key, enter, clock, jump):
    """Not for longer than two minutes, even when it jumped while everything was used up; nor when it comes back."""
    key = new_key(requests_per_minute=2, concurrent_requests=1)
    daily = new_key(tokens_per_day=10)
    for _ in range(2):
        enter(key, "its worker was killed")
        limits.release(database, key, "of another", 0)
        enter(key)
        enter(daily)
        limits.release(database, daily, "r", 10)
        clock.now += jump
        clock.now += 120
        entered = enter(key, "after")
        assert let_in(entered) == [True]
        limits.release(database, key, "after", 0)
        assert let_in(enter(daily)) == [abs(jump) > 86_400 or clock.now // 86_400 != NOON // 86_400]
        execute(database, "DELETE FROM api_key_leases")
        jump = -jump


@pytest.mark.parametrize("option", ["requests_per_minute", "concurrent_requests"])
def test_threads_that_race(database, new_key, enter, clock, option):
    key = new_key(**{option: 5})
    gate = threading.Barrier(24, timeout=60)

    def race(_):
        gate.wait()
        return enter(key)

    with ThreadPoolExecutor(24) as pool:
        assert sum(let_in(*pool.map(race, range(24)))) == 5
    assert len(select(database, "SELECT 1 FROM api_key_leases WHERE api_key_id = ?", key.id)) in (0, 5)


def test_a_deleted_key_leaves_nothing_behind(database, new_key, enter):
    key = new_key(requests_per_minute=5, concurrent_requests=5)
    enter(key)
    keys.delete(database, key.name)
    for table in ("api_key_uses", "api_key_leases"):
        assert select(database, f"SELECT 1 FROM {table} WHERE api_key_id = ?", key.id) == []


def test_leases_are_renewed_while_they_are_held(database, new_key, enter):
    key, held, dropped = new_key(concurrent_requests=2), uuid.uuid4().hex, uuid.uuid4().hex
    leases = Leases(database, interval=0.01)

    def left(request_id):
        return select(database, "SELECT expires_at FROM api_key_leases WHERE id = ?", request_id)[0][0] - time.time()

    for request_id in (held, dropped):
        assert let_in(enter(key, request_id)) == [True]
        leases.acquire(request_id)
    leases.release(dropped)
    execute(database, "UPDATE api_key_leases SET expires_at = ? WHERE api_key_id = ?", int(time.time()) - 5, key.id)
    deadline = time.monotonic() + 60
    while left(held) < 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert left(held) > limits.LEASE_SECONDS - 20 and left(dropped) < 0
    leases.release(held)


def test_a_renewal_that_fails_is_repeated_soon(database, new_key, enter):
    """The usual interval would be too long: others take an expired lease for an abandoned one."""
    key, request_id, failures = new_key(concurrent_requests=1), uuid.uuid4().hex, []

    def fail_twice(*arguments):
        if len(failures) < 2:
            failures.append(arguments)
            raise peewee.OperationalError("The server is gone.")
        limits.renew(*arguments)

    leases = Leases(database, interval=60, renew=fail_twice)
    assert let_in(enter(key, request_id)) == [True]
    execute(database, "UPDATE api_key_leases SET expires_at = 5 WHERE api_key_id = ?", key.id)
    leases.acquire(request_id)
    leases.delete_later("another")  # which makes it begin now
    deadline = time.monotonic() + 30
    while select(database, "SELECT expires_at FROM api_key_leases WHERE id = ?", request_id) == [(5,)]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert len(failures) == 2
    leases.release(request_id)


def test_leases_are_renewed_although_a_thread_could_not_be_started(database, new_key, enter, monkeypatch):
    key, first, second = new_key(concurrent_requests=2), uuid.uuid4().hex, uuid.uuid4().hex
    leases = Leases(database, interval=0.01)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert let_in(enter(key, first)) == [True]
        leases.acquire(first)
    assert let_in(enter(key, second)) == [True]
    leases.acquire(second)
    execute(database, "UPDATE api_key_leases SET expires_at = 5 WHERE api_key_id = ?", key.id)
    deadline = time.monotonic() + 60
    while (5,) in select(database, "SELECT expires_at FROM api_key_leases WHERE api_key_id = ?", key.id):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for request_id in (first, second):
        leases.release(request_id)


@pytest.mark.parametrize("limit", ["requests_per_minute", "concurrent_requests", "tokens_per_day"])
def test_a_key_that_is_deleted_before_it_is_let_in_is_unknown(database, new_key, limit):
    key = new_key(**{limit: 5})
    keys.delete(database, key.name)
    gateway = SimpleNamespace(services=SimpleNamespace(database=database))
    with pytest.raises(GatewayError) as refused:
        letting_in.admit(gateway, key, SimpleNamespace(id=uuid.uuid4().hex))
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("_", range(25))
def test_a_key_is_deleted_while_its_requests_end(database, new_key, _):
    """Nothing waits for ever, and nothing fails."""
    key = new_key(concurrent_requests=8, tokens_per_day=10**6)
    running = [uuid.uuid4().hex for _ in range(5)]
    for request_id in running:
        limits.admit(database, key, request_id)
    acts = [partial(limits.release, database, key, request_id, 10) for request_id in running]
    acts += [partial(keys.delete, database, key.name), partial(limits.renew, database, running)]
    start = threading.Barrier(len(acts), timeout=60)

    def do(act):
        start.wait()
        act()

    with ThreadPoolExecutor(len(acts)) as pool:
        list(pool.map(do, acts))
    assert [row.name for row in keys.all_rows(database) if row.name == key.name] == []
