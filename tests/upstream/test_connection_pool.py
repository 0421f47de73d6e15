"""Idle connections: which are stored and reused, and that nothing of an earlier exchange remains on them."""

import socket
import sys
import threading

import pytest

from floway_core.upstream.connection import SEND_BYTES, UpstreamExchange
from floway_core.upstream.connection_pool import ConnectionPool, PooledConnection


class Connection:
    """A connection as urllib3 connects it, to a peer in this process."""

    def __init__(self):
        self.sock, self.peer = socket.socketpair()
        self.is_closed = False

    def close(self):
        self.is_closed = True
        self.sock.close()


class Client:
    """A client that is connected."""

    def __init__(self):
        self.ends = [socket.socketpair(), socket.socketpair()]

    def fileno(self):
        return self.ends[0][0].fileno()

    def is_closed(self):
        return False

    def shutdown_fileno(self):
        return self.ends[1][0].fileno()


@pytest.fixture
def opened():
    """The connections that are open, in the order of their opening."""
    connections = []
    yield connections
    for connection in connections:
        connection.sock.close()
        connection.peer.close()


@pytest.fixture
def connect(opened):
    def start(pool):
        opened.append(Connection())
        return PooledConnection(opened[-1], pool)

    return start


def test_the_connection_used_last_is_taken_first(connect):
    pool = ConnectionPool(2)
    first, second = connect(pool), connect(pool)
    assert pool.take() is None
    first.release()
    second.release()
    assert [pool.take(), pool.take(), pool.take()] == [second, first, None]


def test_only_so_many_are_kept(connect, opened):
    pool = ConnectionPool(1)
    for connection in (connect(pool), connect(pool)):
        connection.release()
    assert [connection.is_closed for connection in opened] == [False, True]
    pool.close()
    assert all(connection.is_closed for connection in opened) and pool.take() is None


def test_one_that_the_upstream_has_closed_is_not_taken(connect, opened):
    pool = ConnectionPool(3)
    connections = [connect(pool) for _ in range(3)]
    for connection in connections:
        connection.release()
    opened[1].peer.close()
    opened[2].peer.sendall(b"HTTP/1.1 408 Request Timeout\r\n")
    assert pool.take() is connections[0]
    assert [connection.is_closed for connection in opened] == [False, True, True]


def test_a_large_request_is_not_kept_when_it_has_been_sent(connect, opened):
    """A stream may follow for minutes."""
    connection = connect(ConnectionPool(1))
    message, exchange = bytes(SEND_BYTES + 1), UpstreamExchange(connection, reused=False)
    references = sys.getrefcount(message)
    receiver = threading.Thread(target=opened[0].peer.recv, args=(len(message), socket.MSG_WAITALL))
    receiver.start()
    exchange.send(message, None)
    receiver.join()
    assert sys.getrefcount(message) == references


def test_an_exchange_that_waited_to_send_leaves_nothing_behind(connect):
    pool, client = ConnectionPool(1), Client()
    connection = connect(pool)
    connection.poller.watch(client)
    assert not connection.poller.wait(0)
    assert connection.poller.wait(0, writable=True)
    connection.release()
    client.ends[0][1].sendall(b"GET")
    client.ends[1][1].sendall(b"x")
    assert pool.take() is connection and connection.poller.client is None
    assert not connection.poller.wait(0)
