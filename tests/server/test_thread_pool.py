"""The thread pool: its size follows the number of simultaneous requests."""

import threading
from concurrent.futures import Future

import pytest

from floway_core.server.thread_pool import ThreadPool

PATIENCE = 20


class Gates:
    """Calls that end when they are told to."""

    def __init__(self, pool):
        self._pool = pool
        self.names = []
        self._gates = []

    def enter(self):
        """Submit a call and return when it runs."""
        gate, runs = threading.Event(), threading.Event()
        self._gates.append(gate)

        def wait():
            self.names.append(threading.current_thread().ident)
            runs.set()
            assert gate.wait(PATIENCE)

        future = submit(self._pool, wait)
        assert runs.wait(PATIENCE)
        return gate, future

    def open(self):
        for gate in self._gates:
            gate.set()


def submit(pool, call):
    """Submit a call; return the future of its result."""
    future = Future()
    pool.submit(lambda: future.set_result(call()))
    return future


def threads_of(pool):
    return pool._count


def wait_until(condition):
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def test_idle_threads_end_except_the_first():
    pool = ThreadPool(8, idle_seconds=0.05)
    pool.start(2)
    gates = Gates(pool)
    futures = [gates.enter()[1] for _ in range(6)]
    assert threads_of(pool) == 6
    gates.open()
    for future in futures:
        future.result(PATIENCE)
    wait_until(lambda: threads_of(pool) == 2)
    assert submit(pool, lambda: 42).result(PATIENCE) == 42
    pool.shutdown()


def test_the_thread_that_was_busy_last_is_taken_next():
    pool = ThreadPool(8)
    gates = Gates(pool)
    (first, one), (_, two) = gates.enter(), gates.enter()
    first.set()
    one.result(PATIENCE)
    wait_until(lambda: pool._idle)
    for _ in range(20):
        gate, future = gates.enter()
        gate.set()
        future.result(PATIENCE)
        wait_until(lambda: pool._idle)
    assert set(gates.names[2:]) == {gates.names[0]} and threads_of(pool) == 2
    gates.open()
    two.result(PATIENCE)
    pool.shutdown()


def test_calls_beyond_the_limit_wait_for_a_thread():
    pool = ThreadPool(2)
    gates = Gates(pool)
    gates.enter()
    gates.enter()
    later = [submit(pool, lambda number=number: number) for number in range(50)]
    assert not any(future.done() for future in later) and threads_of(pool) == 2
    gates.open()
    assert [future.result(PATIENCE) for future in later] == list(range(50))
    pool.shutdown()


def test_after_shutdown_what_was_submitted_runs_and_nothing_else():
    pool = ThreadPool(1)
    gates = Gates(pool)
    gates.enter()
    later = submit(pool, lambda: "late")
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(lambda: None)
    gates.open()
    assert later.result(PATIENCE) == "late"


def test_many_threads_submit_at_once():
    """Nothing is lost while threads end and begin all the time."""
    pool = ThreadPool(4, idle_seconds=0.0001)
    results = []

    def submit_many():
        futures = [submit(pool, lambda number=number: number) for number in range(500)]
        results.append(sum(future.result(PATIENCE) for future in futures))

    submitters = [threading.Thread(target=submit_many) for _ in range(4)]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join(PATIENCE)
    assert results == [sum(range(500))] * 4
    pool.shutdown()


def test_a_call_that_fails_is_logged_and_its_thread_goes_on(caplog):
    pool = ThreadPool(1)
    pool.submit(lambda: 1 / 0)
    assert submit(pool, lambda: 42).result(PATIENCE) == 42 and threads_of(pool) == 1
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]
    pool.shutdown()
