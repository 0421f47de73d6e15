"""A load generator that is cheaper than any gateway: one epoll loop that sends requests and checks the responses.

    python -m benchmarks.load < plan.json

The plan is a JSON object with the fields of ``Plan``; the result is printed as JSON.
"""

import collections
import errno
import gc
import json
import select
import socket
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks import chat_wire
from benchmarks.answers import ChunkDecoder, StreamCheck, WrongAnswer, check_whole
from benchmarks.gemini import ContentCheck, check_answer
from benchmarks.messages import MessageCheck, check_message

READ_BYTES = 256 * 1024

Check = StreamCheck | MessageCheck | ContentCheck | chat_wire.ChatStreamCheck


@dataclass(frozen=True)
class Plan:
    """Which requests to send, how many, and what to expect."""

    url: str
    body: dict[str, Any]
    """The request, with an order in its input."""
    deltas: int
    """The number of deltas that the order requests."""
    headers: dict[str, str] = field(default_factory=dict)
    connections: int = 1
    requests: int = 0
    """The least number of requests to send."""
    seconds: float = 0.0
    """The least time for which to send."""
    ramp: float = 0.0
    """Seconds over which the connections are opened."""
    time_limit: float = 120.0
    """Seconds after which incomplete responses are abandoned."""
    exact: bool = True
    """The gateway relays deltas as the upstream wrote them."""
    turns: int = 0
    """Turns of a conversation, each naming the response before; 0: no conversation."""
    previous: str | None = None
    """The response that the first conversation continues."""
    each: list[dict[str, Any]] = field(default_factory=list)
    """Fields of the body that differ: each request has the next ones, again and again. Empty: all are the same."""
    api: str = "responses"
    """The API of request and answers: a key of ``CHECKS``."""


CHECKS: dict[str, tuple[Callable[[int, bool, array], Check], Callable[[bytes, int], str]]] = {
    "responses": (StreamCheck, check_whole),
    "messages": (MessageCheck, check_message),
    "gemini": (ContentCheck, check_answer),
    "chat": (lambda deltas, exact, delays: chat_wire.ChatStreamCheck(deltas, delays), chat_wire.check_whole),
}
"""By API: what checks a stream, and what checks an answer in one piece."""


class AnswerReader:
    """Reads and checks one response."""

    def __init__(self, plan: Plan, delays: array, started: int) -> None:
        self._plan, self._delays, self.started = plan, delays, started
        self.head = b""
        self.headers: dict[str, str] = {}
        self.status = 0
        self.first = 0
        self.keep = self.over = False
        self._chunks: ChunkDecoder | None = None
        self._left = -1
        self._check: Check | None = None
        self._body: list[bytes] = []

    def feed(self, data: bytes, now: int) -> None:
        """:raises WrongAnswer: it is not what the upstream sent."""
        if not self.status:
            head, blank, data = (self.head + data).partition(b"\r\n\r\n")
            if not blank:
                self.head = head
                return
            self._begin(head)
            if not data and self._left:
                return
        self.first = self.first or now
        if self._chunks:
            data = self._chunks.feed(data)
            self.over = self._chunks.over
        elif self._left >= 0:
            self._left -= len(data)
            self.over = not self._left
        if self._check:
            self._check.feed(data, now)
        else:
            self._body.append(data)

    def finish(self) -> tuple[str, int]:
        """:returns: the id of the response, and how many events it had.
        :raises WrongAnswer: something is missing.
        """
        if self._check:
            self._check.finish()
            return self._check.id, self._check.events
        if self.status != 200:
            raise WrongAnswer(f"status {self.status}: {b''.join(self._body)[:200].decode(errors='replace')}")
        return CHECKS[self._plan.api][1](b"".join(self._body), self._plan.deltas), 0

    def ended(self) -> bool:
        """Return whether the end of the connection is the end of the response."""
        return bool(self.status) and not self._chunks and self._left < 0

    def _begin(self, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if self.headers.get("transfer-encoding") == "chunked":
            self._chunks = ChunkDecoder()
        else:
            self._left = int(self.headers.get("content-length", -1))
        self.keep = self.headers.get("connection", "").lower() != "close"
        if self.status == 200 and self.headers.get("content-type", "").startswith("text/event-stream"):
            self._check = CHECKS[self._plan.api][0](self._plan.deltas, self._plan.exact, self._delays)


class Connection:
    """One connection, and the conversation on it."""

    def __init__(self, previous: str | None) -> None:
        self.socket: socket.socket | None = None
        self.answer: AnswerReader | None = None
        self.outbox = b""
        self.reused = False
        self.turn = 1 if previous else 0
        self.previous = previous


class Load:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._delays, self._totals, self._firsts, self._refusals = (array("Q") for _ in range(4))
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._sent = self._complete = self._events = self._bytes = self._reconnects = 0
        self._statuses: collections.Counter[int] = collections.Counter()
        self._problems: collections.Counter[str] = collections.Counter()
        self._retry_after = 0
        self._last_id: str | None = None
        parts = urlsplit(plan.url)
        self._address = parts.hostname, parts.port
        headers = {"host": parts.netloc, "content-type": "application/json", **plan.headers}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._head = "\r\n".join(lines).encode()
        self._contents = [{**plan.body, **fields} for fields in plan.each or [{}]]
        self._bodies = [json.dumps(content).encode() for content in self._contents]

    def run(self) -> dict[str, Any]:
        """:returns: see ``_result``."""
        plan, began = self._plan, time.monotonic_ns()
        self._stop = began + int(plan.seconds * 1e9)
        give_up, opened = began + int(plan.time_limit * 1e9), 0
        while opened < plan.connections or self._idle or self._open:
            now = time.monotonic_ns()
            if now > give_up:
                break
            while opened < plan.connections and now - began >= plan.ramp * 1e9 * opened / plan.connections:
                self._idle.append(Connection(None if opened else plan.previous))
                opened += 1
            idle, self._idle = self._idle, []
            for connection in idle:
                self._next(connection)
            for fd, ready in self._epoll.poll(0.001 if opened < plan.connections or self._idle else 0.1):
                if connection := self._open.get(fd):
                    self._ready(connection, ready)
        return self._result(time.monotonic_ns() - began)

    # ------------------------------------------------------------------------------------------------------- requests
    def _next(self, connection: Connection) -> None:
        """Send the next request, or close the connection where there is none."""
        now = time.monotonic_ns()
        if self._sent >= self._plan.requests and now >= self._stop:
            self._close(connection)
            return
        self._sent += 1
        connection.answer = AnswerReader(self._plan, self._delays, now)
        connection.outbox = self._request(connection)
        connection.reused = connection.socket is not None
        if not connection.socket:
            self._connect(connection)
        else:
            self._write(connection)

    def _request(self, connection: Connection) -> bytes:
        number = (self._sent - 1) % len(self._bodies)
        body = self._bodies[number]
        if self._plan.turns:
            if connection.turn and connection.previous:
                body = json.dumps({**self._contents[number], "previous_response_id": connection.previous}).encode()
            connection.turn = (connection.turn + 1) % self._plan.turns
        return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def _connect(self, connection: Connection) -> None:
        connection.socket = socket.socket()
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLIN | select.EPOLLOUT)
        code = connection.socket.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            self._failed(connection, f"connecting: {errno.errorcode[code]}")

    def _close(self, connection: Connection) -> None:
        if connection.socket:
            del self._open[connection.socket.fileno()]
            connection.socket.close()
            connection.socket = None

    # -------------------------------------------------------------------------------------------------------- answers
    def _ready(self, connection: Connection, ready: int) -> None:
        try:
            if ready & select.EPOLLOUT and connection.outbox:
                self._write(connection)
            if ready & ~select.EPOLLOUT and connection.socket:  # writing may have found it broken
                self._read(connection)
        except BlockingIOError:
            pass
        except ConnectionError as error:
            self._broken(connection, type(error).__name__)

    def _write(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.outbox)
        except BlockingIOError:
            sent = 0
        except ConnectionError as error:
            self._broken(connection, type(error).__name__)
            return
        connection.outbox = connection.outbox[sent:]
        events = select.EPOLLIN | select.EPOLLOUT if connection.outbox else select.EPOLLIN
        self._epoll.modify(connection.socket, events)

    def _read(self, connection: Connection) -> None:
        data, now, answer = connection.socket.recv(READ_BYTES), time.monotonic_ns(), connection.answer
        if not data and not answer.ended():
            self._broken(connection, "the connection ends before the answer")
            return
        self._bytes += len(data)
        try:
            answer.feed(data, now)
            if answer.over or not data:
                self._finished(connection, now, keep=answer.keep and bool(data))
        except WrongAnswer as bad:
            self._failed(connection, str(bad))

    def _broken(self, connection: Connection, how: str) -> None:
        """Handle a broken connection. If the server has only closed an idle one, send the request again."""
        if connection.reused and not connection.answer.head and not connection.answer.status:
            self._reconnects += 1
            self._close(connection)
            connection.turn = (connection.turn - 1) % self._plan.turns if self._plan.turns else 0
            self._sent -= 1
            self._next(connection)
        else:
            self._failed(connection, how)

    def _finished(self, connection: Connection, now: int, keep: bool) -> None:
        answer = connection.answer
        self._statuses[answer.status] += 1
        if answer.status == 503:
            self._retry_after += "retry-after" in answer.headers
            self._refusals.append(now - answer.started)
        connection.previous, events = answer.finish()
        self._last_id = connection.previous
        self._complete += 1
        self._events += events
        self._totals.append(now - answer.started)
        self._firsts.append(answer.first - answer.started)
        if not keep:
            self._close(connection)
        self._next(connection)

    def _failed(self, connection: Connection, problem: str) -> None:
        self._problems[problem[:300]] += 1
        connection.previous, connection.turn = None, 0
        self._close(connection)
        self._idle.append(connection)

    def _result(self, elapsed: int) -> dict[str, Any]:
        """Return the figures. Times are in milliseconds; ``problems`` says why responses are not among ``complete``."""
        unfinished = len(self._open)
        return {
            "seconds": elapsed / 1e9,
            "complete": self._complete,
            "failed": self._problems.total(),
            "unfinished": unfinished,
            "problems": dict(self._problems.most_common(5)),
            "statuses": dict(self._statuses),
            "retry_after": self._retry_after,
            "reconnects": self._reconnects,
            "events": self._events,
            "deltas": len(self._delays),
            "bytes": self._bytes,
            "total_ms": _percentiles(self._totals),
            "first_ms": _percentiles(self._firsts),
            "delay_ms": _percentiles(self._delays),
            "refusal_ms": _percentiles(self._refusals),
            "last_id": self._last_id,
        }


def _percentiles(nanoseconds: array) -> dict[str, float]:
    ordered = sorted(nanoseconds)
    return {
        name: ordered[int((len(ordered) - 1) * part)] / 1e6
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
        if ordered
    }


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    gc.disable()  # no cycles worth collecting, and a pause would look like a delay of the gateway
    json.dump(Load(plan).run(), sys.stdout)


if __name__ == "__main__":
    main()
