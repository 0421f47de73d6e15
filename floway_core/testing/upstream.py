"""A scripted HTTP/1.1 server on loopback that acts as the upstream."""

import contextlib
import enum
import random
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Self

TIMEOUT_SECONDS = 60.0
"""Time to wait for anything; only a failing test waits as long."""

POLL_SECONDS = 0.02
"""Time between two checks of the ``release`` event while a reply is held."""


class Step(enum.Enum):
    """What a reply may do besides sending bytes."""

    HOLD = "hold"
    """Send nothing until the server's ``release`` event is set, or the peer disconnects."""
    CUT = "cut"
    """Close the connection at once."""
    RESET = "reset"
    """Reset the connection: the peer gets an error instead of the end of the stream."""


@dataclass(frozen=True)
class Reply:
    """One scripted response."""

    chunks: Sequence[bytes | Step] = ()
    """The body; each bytes object is sent with a call of its own."""
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "text/event-stream"),)
    """Sent unchanged. The header for the framing is added, unless there is a ``content-length``."""
    framing: Literal["chunked", "length", "close"] = "chunked"
    before: Sequence[Step] = ()
    """Steps between the request and the head of the response."""


@dataclass
class Recorded:
    """A request that arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """Spelling and order as received."""
    body: bytes
    connection: int
    """Number of the connection that carried it, from 1."""
    peer_gone: threading.Event = field(default_factory=threading.Event)
    """Set when the peer disconnects before the response is complete."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set when the reply has reached ``Step.HOLD``: all bytes before it have been sent."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the reply has ended, whether completely or not."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header; None if it is missing."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class _ConnectionEnded(Exception):
    """The peer has disconnected, or the script has ended the connection."""


class FakeUpstream:
    """Serves the scripted replies in order, and records what arrives. A context manager.

    A request without a scripted reply gets status 500.
    """

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.connections = 0
        """Number of connections so far."""
        self.release = threading.Event()
        """Set it to continue replies that are at ``Step.HOLD``."""
        self._replies: list[Reply] = []
        self._replies_by_path: dict[str, Reply] = {}
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._listener = _listen()
        self._is_closing = False
        self._accept_thread = threading.Thread(target=self._accept, daemon=True)
        self._accept_thread.start()

    @property
    def url(self) -> str:
        """The base URL, ``http://HOST:PORT``."""
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def script(self, *replies: Reply) -> None:
        """Append replies for the next requests."""
        with self._changed:
            self._replies += replies

    def answer_always(self, path: str, reply: Reply) -> None:
        """Answer all requests for a path with ``reply`` instead of a scripted reply.

        :param path: without a query.
        """
        with self._changed:
            self._replies_by_path[path] = reply

    def forget(self) -> None:
        """Discard recorded requests and remaining replies, for the next test."""
        with self._changed:
            self.release.clear()
            self.requests.clear()
            self._replies.clear()

    def wait_for_request(self, number: int = 1, timeout: float = TIMEOUT_SECONDS) -> Recorded:
        """Wait for a request.

        :param number: counted from 1.
        :param timeout: in seconds.
        :raises TimeoutError: it did not arrive in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= number, timeout):
                raise TimeoutError(f"Only {len(self.requests)} request(s) arrived within {timeout:g} seconds.")
            return self.requests[number - 1]

    def close(self) -> None:
        """Stop listening and drop all connections.

        Sockets are shut down here, and closed by the threads that use them. Otherwise the system could reuse the
        descriptor while a thread is about to read from it.
        """
        self.release.set()
        self._is_closing = True
        _shut_down(self._listener)
        with contextlib.suppress(OSError):  # on some systems the shutdown does not wake accept()
            socket.create_connection(self._listener.getsockname()).close()
        self._accept_thread.join(TIMEOUT_SECONDS)
        for open_socket in self._sockets:
            _shut_down(open_socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- connections
    def _accept(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            while not self._is_closing:
                accepted, _ = self._listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._sockets.append(accepted)
                threading.Thread(target=self._serve_connection, args=(accepted, self.connections), daemon=True).start()

    def _serve_connection(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, _ConnectionEnded), connection, connection.makefile("rb") as stream:
            while request := _read_request(stream, number):
                with self._changed:
                    reply = self._replies_by_path.get(request.path.partition("?")[0]) or (
                        self._replies.pop(0) if self._replies else _NO_REPLY
                    )
                    self.requests.append(request)
                    self._changed.notify_all()
                self._answer(connection, request, reply)
                if reply.framing == "close":
                    return

    def _answer(self, connection: socket.socket, request: Recorded, reply: Reply) -> None:
        try:
            for step in reply.before:
                self._perform(step, connection, request)
            connection.sendall(_encode_head(reply))
            for chunk in reply.chunks:
                if isinstance(chunk, Step):
                    self._perform(chunk, connection, request)
                elif chunk:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk) if reply.framing == "chunked" else chunk)
            if reply.framing == "chunked":
                connection.sendall(b"0\r\n\r\n")
        except OSError:
            request.peer_gone.set()
            raise
        finally:
            request.over.set()

    def _perform(self, step: Step, connection: socket.socket, request: Recorded) -> None:
        if step is Step.HOLD:
            request.held.set()
            while not self.release.wait(POLL_SECONDS):
                if _is_disconnected(connection):
                    request.peer_gone.set()
                    raise _ConnectionEnded
        else:
            if step is Step.RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # for close()
            else:
                connection.shutdown(socket.SHUT_RDWR)
            raise _ConnectionEnded


@contextlib.contextmanager
def unreachable_url() -> Iterator[str]:
    """Return a URL at which no server listens, as a context manager."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, so that nobody else gets the port; not listening, so connecting fails
        yield "http://{}:{}".format(*bound.getsockname())


def _shut_down(open_socket: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer may have closed it already
        open_socket.shutdown(socket.SHUT_RDWR)


def _listen() -> socket.socket:
    """Listen on a random port. The system would soon assign the same port again, and the gateway of an earlier test
    could still send requests to it."""
    while True:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", random.SystemRandom().randrange(12_000, 20_000)))


_NO_REPLY = Reply([b'{"error":{"message":"no reply is scripted"}}'], 500, [("content-type", "application/json")])


def _is_disconnected(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _encode_head(reply: Reply) -> bytes:
    lines = [f"{name}: {value}" for name, value in reply.headers]
    if not any(name.lower() == "content-length" for name, _ in reply.headers):
        lines.append(_framing_header(reply))
    return "\r\n".join([f"HTTP/1.1 {reply.status} Scripted", *lines, "", ""]).encode("latin-1")


def _framing_header(reply: Reply) -> str:
    if reply.framing == "length":
        return f"content-length: {sum(len(chunk) for chunk in reply.chunks if isinstance(chunk, bytes))}"
    return "transfer-encoding: chunked" if reply.framing == "chunked" else "connection: close"


def _read_request(stream: BinaryIO, connection: int) -> Recorded | None:
    """Read the next request; None at the end of the connection."""
    first = stream.readline()
    if not first.strip():
        return None
    method, path, _ = first.decode("latin-1").split(" ", 2)
    headers = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    request = Recorded(method, path, headers, b"", connection)
    if (request.header("transfer-encoding") or "").lower() == "chunked":
        request.body = _read_chunks(stream)
    else:
        request.body = stream.read(int(request.header("content-length") or 0))
    return request


def _read_chunks(stream: BinaryIO) -> bytes:
    body = b""
    while size := int(stream.readline().split(b";")[0], 16):
        body += stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass  # trailers
    return body
