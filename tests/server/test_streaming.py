"""The stream loop alone, over real sockets, without a gateway."""

import queue
import socket
import threading

import pytest

from floway_core.engine.client_stream import StreamState
from floway_core.server.send_buffer import SLICE_BYTES
from floway_core.server.stream_loop import Stream, StreamLoop

PATIENCE = 10


class Sides:
    """A stream with somebody at both of its ends."""

    def __init__(self):
        self.upstream, self.inner = socket.socketpair()
        self.client, self.outer = socket.socketpair()
        self.outer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for end in (self.inner, self.outer):
            end.setblocking(False)
        for end in (self.upstream, self.client):
            end.settimeout(PATIENCE)
        self.left = queue.Queue()
        self.read = 0
        self.pondering, self.go_on = threading.Event(), threading.Event()
        self.state = StreamState.WAITING
        self.stream = Stream(self, self.inner.fileno(), self.outer, chunked=False, on_leave=self._leave)

    def _leave(self, stream):
        self.left.put(stream)

    def advance(self, wait):
        """Pass on what the upstream sends, as an ``AnswerStream`` does."""
        assert not wait and self.state is StreamState.WAITING
        try:
            piece = self.inner.recv(65536)
        except BlockingIOError:
            return b""
        self.read += len(piece)
        assert piece != b"fail"
        if piece == b"ponder":
            self.pondering.set()
            assert self.go_on.wait(PATIENCE)
        if piece in (b"", b"wait"):
            self.state = StreamState.NEEDS_THREAD
        return b"" if piece == b"wait" else piece


@pytest.fixture
def sides():
    sides = Sides()
    yield sides
    for end in (sides.upstream, sides.client):  # those on the other side are the loop's
        end.close()


@pytest.fixture
def ending():
    seen, held = socket.socketpair()
    yield seen, held
    seen.close()
    held.close()


@pytest.fixture
def started(sides, ending):
    def start(patience=PATIENCE):
        loop = StreamLoop(ending[0].fileno(), patience, tick=0.02)
        loop.start()
        return loop

    return start


def test_what_comes_is_passed_on(started, sides):
    started().add(sides.stream)
    for piece in (b"one", b"two"):
        sides.upstream.sendall(piece)
        assert sides.client.recv(100) == piece
    assert sides.stream.sent == 6 and sides.left.empty()


def test_pieces_are_framed(started, sides):
    sides.stream.chunked = True
    started().add(sides.stream)
    sides.upstream.sendall(b"a" * 17)
    assert sides.client.recv(100) == b"11\r\n" + b"a" * 17 + b"\r\n"


@pytest.mark.parametrize("how", ["marked", "ended"])
def test_a_thread_is_asked_to_go_on(started, sides, how):
    started().add(sides.stream)
    if how == "marked":
        sides.upstream.sendall(b"wait")
    else:
        sides.upstream.close()
    assert sides.left.get(timeout=PATIENCE) is sides.stream and sides.stream.error is None
    sides.upstream.close()
    with pytest.raises(queue.Empty):  # the loop has nothing to do with it any more
        sides.left.get(timeout=0.1)


def test_a_slow_client_slows_its_upstream(started, sides):
    started().add(sides.stream)
    sides.upstream.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += sides.upstream.send(bytes([sent % 251]) * 1000)
    held, received = sides.read, b""
    assert held < sent
    sides.upstream.setblocking(True)
    while len(received) < sent:
        received += sides.client.recv(65536)
    assert sides.stream.sent == sides.read == sent and sides.left.empty()


def test_a_slow_client_whose_upstream_ends_gets_everything(started, sides):
    started().add(sides.stream)
    sides.upstream.sendall(b"x" * 100_000)
    sides.upstream.close()
    received = 0
    while received + len(sides.stream.unsent) < 100_000 or sides.left.empty():
        received += len(sides.client.recv(65536)) if received < 100_000 else 0
    assert received == 100_000 and sides.left.get().error is None


class RecordedSocket:
    """A socket that notes what is given to it, and in which turn of the loop."""

    def __init__(self, inner, loop, sends):
        self.inner, self.loop, self.sends = inner, loop, sends

    def fileno(self):
        return self.inner.fileno()

    def send(self, data, flags):
        self.sends.append((self.loop._poll_number, data))
        return self.inner.send(data, flags)


@pytest.mark.parametrize("chunked", [False, True])
def test_large_events_are_sent_in_slices_by_turns_and_without_a_copy(started, sides, chunked):
    loop, large = started(), b"x" * 20_000_000
    readers, sends = [sides, Sides()], {}
    for reader in readers:
        sends[reader] = []
        original = reader.advance
        reader.advance = lambda wait, original=original: large if original(wait) else b""
        reader.stream.client = RecordedSocket(reader.outer, loop, sends[reader])
        reader.stream.chunked = chunked
        loop.add(reader.stream)
    for reader in readers:
        reader.upstream.sendall(b"large")
    received = dict.fromkeys(readers, 0)
    while min(received.values()) < len(large):
        for reader in readers:
            if received[reader] < len(large):
                received[reader] += len(reader.client.recv(2**20))
    for reader in readers:
        turns = [turn for turn, _ in sends[reader]]
        pieces = [data for _, data in sends[reader] if len(data) > 10]  # the others frame the chunk
        assert max(map(len, pieces)) <= SLICE_BYTES
        assert all(data.obj is large for data in pieces)
        assert len(set(turns[3:])) == len(turns[3:])  # one slice in each turn, behind the first one and the framing


def test_a_client_that_stands_still_is_given_up(started, sides):
    started(patience=0.05).add(sides.stream)
    sides.upstream.sendall(b"x" * 100_000)
    assert isinstance(sides.left.get(timeout=PATIENCE).error, TimeoutError)


def test_a_client_that_hangs_up_is_noticed(started, sides):
    started().add(sides.stream)
    sides.client.close()
    assert isinstance(sides.left.get(timeout=PATIENCE).error, ConnectionError)


def test_a_client_that_hung_up_before_it_came_is_noticed(started, sides):
    sides.client.close()
    started().add(sides.stream)
    assert isinstance(sides.left.get(timeout=PATIENCE).error, ConnectionError)


def test_a_stream_that_takes_long_does_not_keep_others_from_coming(started, sides):
    loop, other = started(), Sides()
    loop.add(sides.stream)
    sides.upstream.sendall(b"ponder")
    assert sides.pondering.wait(PATIENCE)
    adding = threading.Thread(target=loop.add, args=(other.stream,))
    adding.start()
    adding.join(PATIENCE)
    assert not adding.is_alive()
    sides.go_on.set()
    other.upstream.sendall(b"one")
    assert other.client.recv(100) == b"one"


def test_a_stream_that_fails_leaves_the_others_alone(started, sides):
    loop, other = started(), Sides()
    loop.add(sides.stream)
    loop.add(other.stream)
    sides.upstream.sendall(b"fail")
    assert isinstance(sides.left.get(timeout=PATIENCE).error, ConnectionAbortedError)
    other.upstream.sendall(b"one")
    assert other.client.recv(100) == b"one"


def test_everybody_leaves_at_the_end(started, sides, ending):
    loop, other = started(), Sides()
    loop.add(sides.stream)
    loop.add(other.stream)
    ending[1].close()
    assert sides.left.get(timeout=PATIENCE).error is None
    assert other.left.get(timeout=PATIENCE).error is None


def test_who_comes_after_the_end_leaves_at_once(started, sides, ending):
    loop, late = started(), Sides()
    loop.add(sides.stream)
    ending[1].close()
    assert sides.left.get(timeout=PATIENCE)
    loop.add(late.stream)
    assert late.left.get(timeout=PATIENCE).error is None
