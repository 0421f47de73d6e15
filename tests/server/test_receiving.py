"""Receiving through shared buffers: they are reused, and never by two readers at once."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from floway_core import receiving
from floway_core.receiving import READ_BYTES, receive

READERS = 8
PATIENCE = 60


@pytest.fixture(autouse=True)
def spare(monkeypatch):
    """The buffers that nobody uses; none at first."""
    monkeypatch.setattr(receiving, "_spare", [])
    return receiving._spare


class Meeting:
    """Sockets whose readers all have a buffer before the first of them is filled, and keep it until all are filled."""

    def __init__(self, readers):
        self.barrier = threading.Barrier(readers, timeout=PATIENCE)
        self.buffers = []

    def socket(self, data):
        meeting = self

        class Socket:
            def recv_into(self, buffer, size, flags):
                meeting.buffers.append(buffer.obj)
                meeting.barrier.wait()
                buffer[: len(data)] = data
                meeting.barrier.wait()
                return len(data)

        return Socket()


def receive_at_once(count):
    """Let as many readers receive at the same time; return what each was sent, what each received, and the buffers."""
    meeting, sent = Meeting(count), [bytes([number]) * 1000 for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        received = list(pool.map(receive, [meeting.socket(data) for data in sent]))
    return sent, received, {id(buffer): buffer for buffer in meeting.buffers}


def test_readers_at_the_same_time_have_buffers_of_their_own():
    sent, received, buffers = receive_at_once(READERS)
    assert received == sent and len(buffers) == READERS


def test_buffers_are_used_again(spare):
    _, _, first = receive_at_once(READERS)
    _, _, then = receive_at_once(READERS)
    assert first.keys() == then.keys()
    for _ in range(3):
        sent, received, alone = receive_at_once(1)
        assert received == sent and alone.keys() <= first.keys()
    assert {id(buffer.obj) for buffer in spare} == first.keys() and len(spare) == READERS


def test_what_was_received_does_not_change_with_its_buffer():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"first")
        first = receive(right)
        left.sendall(b"other")
        assert (first, receive(right)) == (b"first", b"other")
        left.sendall(b"x" * (READ_BYTES + 1))
        assert len(receive(right)) <= READ_BYTES


@pytest.mark.parametrize("how", ["would wait", "is closed"])
def test_a_reader_that_fails_gives_its_buffer_back(spare, how):
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        if how == "is closed":
            right.close()
        for _ in range(3):
            with pytest.raises(OSError, match=r"temporarily unavailable|Bad file descriptor"):
                receive(right)
    assert len(spare) == 1
