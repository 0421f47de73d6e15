"""Threads hand connections to the main loop, which wakes only for what cannot wait for its next event."""

import socket
from types import SimpleNamespace

import pytest

from floway_core.server.connection_loop import ConnectionLoop
from floway_core.server.poller import CallQueue, Poller

from ..support.readiness import is_readable

PATIENCE = 20
FULL = 10
AT_ONCE = {
    "the last one": {"keeps_alive": False},
    "with bytes that the client has not accepted": {"unsent": b"x"},
    "with a part of the next request": {"incoming": b"x"},
    "in a full worker": {"nr_conns": FULL},
}


@pytest.fixture
def loop():
    """What ``pass_on`` uses of a worker, with a list of what the main loop was told."""
    calls, told = CallQueue(), []
    calls.init()
    poller = Poller(calls)
    poller.register(calls.fileno(), 1, calls.run_callbacks)

    def expect(conn):
        told.append("expect")
        poller.expect(conn, lambda _: told.append("request"))

    yield SimpleNamespace(
        method_queue=calls,
        poller=poller,
        told=told,
        nr_conns=1,
        worker_connections=FULL,
        _expect_request=expect,
        _continue=lambda conn: told.append("continue"),
    )
    poller.close()
    calls.close()


@pytest.fixture
def conn():
    sock, peer = socket.socketpair()
    yield SimpleNamespace(sock=sock, peer=peer, keeps_alive=True, unsent=b"", incoming=b"", is_registered=False)
    sock.close()
    peer.close()


def is_woken(loop):
    return is_readable(loop.method_queue)


def test_an_idle_connection_wakes_the_loop_with_its_next_request(loop, conn):
    ConnectionLoop.pass_on(loop, conn)
    assert not is_woken(loop)
    conn.peer.send(b"x")
    loop.poller.dispatch(PATIENCE)
    assert loop.told == ["expect", "request"]


def test_a_request_that_is_there_already_is_not_lost(loop, conn):
    conn.peer.send(b"x")
    ConnectionLoop.pass_on(loop, conn)
    loop.poller.dispatch(PATIENCE)
    assert loop.told == ["expect", "request"]


@pytest.mark.parametrize("case", AT_ONCE)
def test_others_wake_the_loop_at_once(loop, conn, case):
    for name, value in AT_ONCE[case].items():
        setattr(loop if hasattr(loop, name) else conn, name, value)
    ConnectionLoop.pass_on(loop, conn)
    assert is_woken(loop)
    loop.poller.dispatch(PATIENCE)
    assert loop.told == ["continue"]


def test_a_connection_that_a_thread_has_closed_wakes_the_loop_at_once(loop, conn):
    conn.sock.close()
    ConnectionLoop.pass_on(loop, conn)
    assert is_woken(loop)
