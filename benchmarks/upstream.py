"""A fake upstream that is much cheaper than any gateway: one epoll loop that serves Responses and Chat Completions.

    python -m benchmarks.upstream [PORT]

prints its URL and serves until it is terminated. It accepts any key, model and ``previous_response_id``.
``benchmarks.wire`` says how a request orders the number and the pace of its events. Each event is one chunk, written
alone. Without a pace, up to 32 events go out in one write, as from an upstream that is faster than its reader.
"""

import contextlib
import gc
import heapq
import itertools
import json
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from benchmarks import chat_wire, wire
from benchmarks.wire import Order

BURST = 32
TELEMETRY = (b"post /v1/traces ", b"post /v1/metrics ")
"""Requests of a gateway to a collector, which it is, too. It reads nothing of them."""
READ_BYTES = 256 * 1024
PADDED = b"%0*d"

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MODELS = json.dumps(
    {
        "object": "list",
        "data": [{"id": wire.MODEL, "object": "model", "created": 1700000000, "owned_by": "bench"}],
        "models": [{"slug": wire.MODEL}],
    }
).encode()


def _json_head(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _stamp() -> bytes:
    return PADDED % (wire.STAMP, time.monotonic_ns())


class Stream:
    """The events of one answer, written one after the other."""

    def __init__(self, order: Order, id: bytes, speaks_chat: bool) -> None:
        self.order, self.id, self.speaks_chat = order, id, speaks_chat
        self.numbers = _numbers(order)
        self.stamps: list[bytes] = []
        self.opening = (chat_wire if speaks_chat else wire).opening_events(id)[::-1]
        self.closing: list[bytes] | None = None
        self.over = False

    def next_event(self, stamp: bytes) -> bytes:
        """The next event as a chunk; with the last one, the end of the body."""
        if self.opening:
            return _chunk(self.opening.pop())
        written = len(self.stamps)
        if written < len(self.numbers):
            self.stamps.append(stamp)
            if self.order.fault == "altered" and written == self.order.deltas // 2:
                stamp = stamp[:-1] + (b"1" if stamp.endswith(b"0") else b"0")
            if self.speaks_chat:
                return _chunk(chat_wire.delta_event(self.numbers[written], self.id, stamp))
            head, middle = wire.delta_parts(self.numbers[written])
            size = len(head) + len(middle) + len(wire.DELTA_TAIL) + wire.ID + wire.STAMP
            return b"%x\r\n%b%b%b%b%b\r\n" % (size, head, self.id, middle, stamp, wire.DELTA_TAIL)
        if self.closing is None:
            self.closing = self._closing()
        event = _chunk(self.closing.pop())
        self.over = not self.closing
        return event + b"0\r\n\r\n" if self.over else event

    def _closing(self) -> list[bytes]:
        closing = chat_wire.closing_events if self.speaks_chat else wire.closing_events
        events = closing(self.id, self.order.deltas, self._text())
        return (events[:-1] if self.order.fault in ("unfinished", "cut") else events)[::-1]

    def _text(self) -> bytes:
        if self.order.fault in ("lost", "doubled", "swapped"):  # the deltas are wrong, and the full text is right
            return wire.full_text(range(self.order.deltas), (self.stamps * 2)[: self.order.deltas])
        text = wire.full_text(self.numbers, self.stamps)
        return text[:-1] if self.order.fault == "text" else text


def _numbers(order: Order) -> range | list[int]:
    """Return the numbers of the deltas to write."""
    numbers, middle = list(range(order.deltas)), order.deltas // 2
    if order.fault == "lost":
        del numbers[middle]
    elif order.fault == "doubled":
        numbers.insert(middle, middle)
    elif order.fault == "swapped":
        numbers[middle - 1 : middle + 1] = middle, middle - 1
    else:
        return range(order.deltas)
    return numbers


def _whole(order: Order, id: bytes, speaks_chat: bool) -> bytes:
    numbers = _numbers(order)
    text = wire.full_text(numbers, [_stamp()] * len(numbers))
    whole = chat_wire.whole_answer if speaks_chat else wire.whole_answer
    answer = whole(id, order.deltas, text[:-1] if order.fault == "text" else text)
    return _json_head(b"200 OK", answer) + answer


class Connection:
    """A client's connection."""

    __slots__ = ("due", "inbox", "is_delayed", "outbox", "socket", "stream")

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.inbox = bytearray()
        self.outbox = b""
        self.stream: Stream | None = None
        self.due = 0
        self.is_delayed = False
        """Whether its next event was due while the client had not read the previous one."""


class Upstream:
    """The loop."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener, self._epoll = listener, select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._timers: list[tuple[int, int, Connection]] = []
        self._numbers = itertools.count(1)

    def serve(self) -> None:
        """Serve until the process ends."""
        while True:
            for fd, ready in self._epoll.poll(self._patience()):
                if fd == self._listener.fileno():
                    self._accept()
                elif connection := self._connections.get(fd):
                    self._call_safely(connection, self._write if ready == select.EPOLLOUT else self._read)
            now = time.monotonic_ns()
            while self._timers and self._timers[0][0] <= now:
                connection = heapq.heappop(self._timers)[2]
                if connection.stream:
                    self._call_safely(connection, self._continue)

    def _patience(self) -> float:
        return max(0.0, (self._timers[0][0] - time.monotonic_ns()) / 1e9) if self._timers else -1

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[accepted.fileno()] = Connection(accepted)
                self._epoll.register(accepted, select.EPOLLIN)

    def _call_safely(self, connection: Connection, act: Callable[[Connection], None]) -> None:
        try:
            act(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.stream = None
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    # ------------------------------------------------------------------------------------------------------- requests
    def _read(self, connection: Connection) -> None:
        data = connection.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError
        connection.inbox += data
        while not connection.stream and (request := _take_request(connection.inbox)):
            self._answer(connection, *request)

    def _answer(self, connection: Connection, head: bytes, body: bytes) -> None:
        if not head.startswith(b"post "):
            self._send(connection, _json_head(b"200 OK", MODELS) + MODELS)
            return
        if head.startswith(TELEMETRY):
            self._send(connection, _json_head(b"200 OK", b"{}") + b"{}")
            return
        id = b"%0*x" % (wire.ID, next(self._numbers))
        order, speaks_chat = wire.find_order(body), chat_wire.PATH.encode() in head.partition(b"\r\n")[0]
        if b'"stream":true' in body or b'"stream": true' in body:
            connection.stream, connection.due = Stream(order, id, speaks_chat), time.monotonic_ns()
            self._send(connection, SSE_HEAD)
            self._continue(connection)
        else:
            self._send(connection, _whole(order, id, speaks_chat))

    # -------------------------------------------------------------------------------------------------------- answers
    def _continue(self, connection: Connection) -> None:
        """Write the next events of a stream, unless earlier ones have not been sent yet."""
        stream, connection.is_delayed = connection.stream, bool(connection.outbox)
        if connection.is_delayed:
            return
        if stream.order.every:
            data = stream.next_event(_stamp())
            connection.due += stream.order.every * 1000
        else:
            stamp, events = _stamp(), []
            while len(events) < BURST and not stream.over:
                events.append(stream.next_event(stamp))
            data = b"".join(events)
        if stream.over:
            connection.stream = None
            if stream.order.fault == "cut":
                raise ConnectionAbortedError
        else:
            heapq.heappush(self._timers, (connection.due, next(self._numbers), connection))
        self._send(connection, data)

    def _send(self, connection: Connection, data: bytes) -> None:
        try:
            sent = 0 if connection.outbox else connection.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            connection.outbox += data[sent:]
            self._epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _write(self, connection: Connection) -> None:
        connection.outbox = connection.outbox[connection.socket.send(connection.outbox) :]
        if not connection.outbox:
            self._epoll.modify(connection.socket, select.EPOLLIN)
            if connection.is_delayed:
                self._continue(connection)


def _take_request(inbox: bytearray) -> tuple[bytes, bytes] | None:
    """Take the next request out of ``inbox``.

    :returns: its head in lower case, and its body; None if it is not complete.
    """
    end = inbox.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(inbox[:end]).lower()
    _, _, length = head.partition(b"\r\ncontent-length:")
    size = int(length.partition(b"\r\n")[0] or 0)
    if len(inbox) < end + 4 + size:
        return None
    body = bytes(inbox[end + 4 : end + 4 + size])
    del inbox[: end + 4 + size]
    return head, body


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.create_server(("127.0.0.1", port), backlog=4096) as listener:
        listener.setblocking(False)
        print("http://{}:{}".format(*listener.getsockname()), flush=True)
        gc.disable()  # no cycles are made, and a pause would look like a delay of the gateway
        Upstream(listener).serve()


if __name__ == "__main__":
    main()
