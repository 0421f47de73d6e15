"""A scripted HTTP/1.1 server on loopback that plays the upstream."""

import contextlib
import enum
import random
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Self

PATIENCE = 20.0
"""Seconds after which waiting for something is given up; only a failing test waits as long."""

GLANCE = 0.02
"""Seconds between two looks at the ``release`` event while a reply is held."""


class Step(enum.Enum):
    """What a reply may do beside sending bytes."""

    HOLD = "hold"
    """Send nothing until the server's ``release`` event is set, or the peer hangs up."""
    CUT = "cut"
    """Close the connection here and now."""
    RESET = "reset"
    """Reset the connection: the peer gets an error instead of an end."""


@dataclass(frozen=True)
class Reply:
    """One scripted answer."""

    chunks: Sequence[bytes | Step] = ()
    """The body; each piece of bytes is sent by itself."""
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "text/event-stream"),)
    """Sent as they are; the header for the framing is added, unless a content-length is among them."""
    framing: Literal["chunked", "length", "close"] = "chunked"
    before: Sequence[Step] = ()
    """What happens between the request and the head of the answer."""


@dataclass
class Recorded:
    """A request that arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """Spelling and order as received."""
    body: bytes
    connection: int
    """1 for what came over the first connection, and so on."""
    peer_gone: threading.Event = field(default_factory=threading.Event)
    """Set when the peer hangs up before its answer is complete."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the script of the answer has come to its end, whatever that is."""

    def header(self, name: str) -> str | None:
        """The first value of header ``name``, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class _Gone(Exception):
    """The connection is over: the peer hung up, or the script says so."""


class FakeUpstream:
    """Serves the scripted replies in order, and records what arrives. A context manager.

    A request for which no reply is left is answered with status 500.
    """

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.connections = 0
        """How many connections were opened so far."""
        self.release = threading.Event()
        """Lets the replies go on that are at ``Step.HOLD``."""
        self._replies: list[Reply] = []
        self._standing: dict[str, Reply] = {}
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._listener = _listener()
        self._closing = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def script(self, *replies: Reply) -> None:
        """Add replies behind those that are still to be served."""
        with self._changed:
            self._replies += replies

    def answer_always(self, path: str, reply: Reply) -> None:
        """Answer requests for ``path``, whatever its query, with ``reply``, and not with one of the scripted."""
        with self._changed:
            self._standing[path] = reply

    def forget(self) -> None:
        """Forget the recorded requests and the replies that are still to be served, so that another test can begin."""
        with self._changed:
            self.release.clear()
            self.requests.clear()
            self._replies.clear()

    def wait_for_request(self, number: int = 1, timeout: float = PATIENCE) -> Recorded:
        """The request ``number``, counted from 1, as soon as it is there.

        :raises TimeoutError: it did not come.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= number, timeout):
                raise TimeoutError(f"Only {len(self.requests)} request(s) came within {timeout:g} seconds.")
            return self.requests[number - 1]

    def close(self) -> None:
        """Stop listening and drop all connections.

        The sockets are shut down here and closed by the threads that use them: a thread that is about to read must not
        find the number of its socket given to another one.
        """
        self.release.set()
        self._closing = True
        _shut_down(self._listener)
        with contextlib.suppress(OSError):  # some systems let a thread that accepts wait all the same
            socket.create_connection(self._listener.getsockname()).close()
        self._accepting.join(PATIENCE)
        for open_socket in self._sockets:
            _shut_down(open_socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- connections
    def _accept(self) -> None:
        with contextlib.suppress(OSError), self._listener:
            while not self._closing:
                accepted, _ = self._listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._sockets.append(accepted)
                threading.Thread(target=self._converse, args=(accepted, self.connections), daemon=True).start()

    def _converse(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, _Gone), connection, connection.makefile("rb") as stream:
            while request := _read_request(stream, number):
                with self._changed:
                    reply = self._standing.get(request.path.partition("?")[0]) or (
                        self._replies.pop(0) if self._replies else _NOTHING_SCRIPTED
                    )
                    self.requests.append(request)
                    self._changed.notify_all()
                self._answer(connection, request, reply)
                if reply.framing == "close":
                    return

    def _answer(self, connection: socket.socket, request: Recorded, reply: Reply) -> None:
        try:
            for step in reply.before:
                self._take(step, connection, request)
            connection.sendall(_head(reply))
            for chunk in reply.chunks:
                if isinstance(chunk, Step):
                    self._take(chunk, connection, request)
                elif chunk:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk) if reply.framing == "chunked" else chunk)
            if reply.framing == "chunked":
                connection.sendall(b"0\r\n\r\n")
        except OSError:
            request.peer_gone.set()
            raise
        finally:
            request.over.set()

    def _take(self, step: Step, connection: socket.socket, request: Recorded) -> None:
        if step is Step.HOLD:
            while not self.release.wait(GLANCE):
                if _hung_up(connection):
                    request.peer_gone.set()
                    raise _Gone
        else:
            if step is Step.RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # for close()
            else:
                connection.shutdown(socket.SHUT_RDWR)
            raise _Gone


@contextlib.contextmanager
def unreachable_url() -> Iterator[str]:
    """A URL at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listen(), connecting is refused; bound, the port stays nobody else's
        yield "http://{}:{}".format(*taken.getsockname())


def _shut_down(open_socket: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer may have been first
        open_socket.shutdown(socket.SHUT_RDWR)


def _listener() -> socket.socket:
    """A socket that listens on a port of chance: systems soon give the same one again, and who still asks the upstream
    that had it before, such as the gateway of another test, would be answered."""
    while True:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", random.SystemRandom().randrange(12_000, 20_000)))


_NOTHING_SCRIPTED = Reply(
    [b'{"error":{"message":"no reply is scripted"}}'], 500, [("content-type", "application/json")]
)


def _hung_up(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _head(reply: Reply) -> bytes:
    framing = {
        "chunked": "transfer-encoding: chunked",
        "length": f"content-length: {sum(len(chunk) for chunk in reply.chunks if isinstance(chunk, bytes))}",
        "close": "connection: close",
    }
    lines = [f"{name}: {value}" for name, value in reply.headers]
    if not any(name.lower() == "content-length" for name, _ in reply.headers):
        lines.append(framing[reply.framing])
    return "\r\n".join([f"HTTP/1.1 {reply.status} Scripted", *lines, "", ""]).encode("latin-1")


def _read_request(stream: BinaryIO, connection: int) -> Recorded | None:
    """The next request, or None when the peer has none."""
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
