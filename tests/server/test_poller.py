"""How the main loop waits: each connection is called once per wait, and no call of another thread is lost."""

import os
import select
import socket
import threading

import pytest

from floway_core.server.poller import CallQueue, Poller

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
def poller():
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def calls(poller):
    queue = CallQueue()
    queue.init()
    poller.register(queue.fileno(), 1, queue.run_callbacks)
    yield queue
    queue.close()


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


def test_a_call_that_a_call_adds_is_made_in_the_next_turn(poller, calls):
    made = []
    calls.defer(lambda: (made.append(1), calls.defer(made.append, 2)))
    poller.dispatch(PATIENCE)
    assert made == [1]
    poller.dispatch(PATIENCE)
    assert made == [1, 2]


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
        assert not select.select([reader], [], [], 0)[0]
