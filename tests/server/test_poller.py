"""How the main loop waits: each connection is called once per wait, and no call of another thread is lost."""

import os
import select
import socket
import threading

import pytest

from floway_core.server.poller import CallQueue, Poller

from ..support.readiness import is_readable

PATIENCE = 20


class Watched:
    """One end of a connection, which the other end writes to."""

    def __init__(self):
        self.sock, self.peer = socket.socketpair()
        self.is_registered = False

    def close(self):
        self.sock.close()
        self.peer.close()


@pytest.fixture
def conn():
    conn = Watched()
    yield conn
    conn.close()


@pytest.fixture
def calls():
    queue = CallQueue()
    queue.init()
    yield queue
    queue.close()


@pytest.fixture
def poller(calls):
    poller = Poller(calls)
    poller.register(calls.fileno(), 1, calls.run_callbacks)
    yield poller
    poller.close()


def test_a_connection_is_called_once_until_it_is_watched_again(poller, conn):
    called = []
    poller.watch(conn, select.EPOLLIN, called.append)
    poller.dispatch(0)
    assert called == []
    conn.peer.send(b"x")
    poller.dispatch(PATIENCE)
    poller.dispatch(0)
    assert called == [conn]
    poller.watch(conn, select.EPOLLIN, called.append)  # what has arrived is still there
    poller.dispatch(PATIENCE)
    assert called == [conn, conn]


def test_a_connection_that_is_forgotten_is_not_called(poller, conn):
    called = []
    poller.watch(conn, select.EPOLLIN, called.append)
    poller.forget(conn)
    conn.peer.send(b"x")
    poller.dispatch(0)
    assert called == []


def test_a_connection_dropped_by_an_event_of_the_same_poll_is_not_called(poller, conn):
    other, called = Watched(), []

    def drop_the_other(dropped, kept):
        called.append(kept)
        poller.forget(dropped)
        dropped.close()

    for watched, rest in ((conn, other), (other, conn)):
        watched.peer.send(b"x")
        poller.watch(watched, select.EPOLLIN, lambda this, rest=rest: drop_the_other(rest, this))
    poller.dispatch(PATIENCE)
    assert len(called) == 1
    other.close()


def test_a_new_connection_may_have_the_descriptor_of_a_closed_one(poller):
    called = []
    for _ in range(2):
        conn = Watched()
        poller.watch(conn, select.EPOLLIN, called.append)
        conn.peer.send(b"x")
        poller.dispatch(PATIENCE)
        assert called.pop() is conn
        conn.close()


def test_calls_of_many_threads_are_all_made(poller, calls):
    made = []

    def defer():
        for number in range(1000):
            calls.defer(made.append, number)

    threads = [threading.Thread(target=defer) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(made) < 4000:
        poller.dispatch(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(made) == sorted([*range(1000)] * 4)


def test_calls_that_add_further_ones_do_not_hold_up_the_loop(poller, calls):
    made = []

    def call_again():
        made.append(1)
        calls.defer(call_again)

    call_again()
    for turn in range(1, 4):
        poller.dispatch(PATIENCE)
        assert turn < len(made) <= 1 + 2 * turn


def test_a_call_that_wakes_nobody_is_made_before_the_next_event(poller, calls, conn):
    """A thread passes a connection on like this: its request may be there before the main loop knows that it waits."""
    called = []
    poller.watch(conn, select.EPOLLIN, called.append)
    conn.peer.send(b"first")
    poller.dispatch(PATIENCE)
    conn.sock.recv(10)
    calls.add(poller.expect, conn, lambda _: called.append("second"))
    conn.peer.send(b"second")
    poller.arm(conn, select.EPOLLIN)
    poller.dispatch(PATIENCE)
    assert called == [conn, "second"]


def test_a_call_that_wakes_nobody_is_made_at_the_end_of_a_turn_without_events(poller, calls):
    made = []
    calls.add(made.append, 1)
    poller.dispatch(0)
    assert made == [1]


def test_a_queue_that_is_closed_writes_to_nobody():
    queue = CallQueue()
    queue.init()
    descriptor = queue.fileno()
    reader, writer = socket.socketpair()
    with reader, writer:
        queue.close()
        os.dup2(writer.fileno(), descriptor)  # the system uses its number again
        queue.defer(print)
        os.close(descriptor)
        assert not is_readable(reader)
