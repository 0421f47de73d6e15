"""An upstream that a test plays byte by byte, over TLS if it likes: for what ``FakeUpstream`` is too well-behaved."""

import contextlib
import queue
import re
import socket
import struct
import threading
from types import SimpleNamespace

from floway_core.runtime.settings_loader import load_settings
from floway_core.upstream import HttpClient

PATIENCE = 10
"""Seconds; only a failing test waits as long."""

NOBODY = SimpleNamespace(attempt=SimpleNamespace(request=SimpleNamespace(client=None)))
"""The context of a request without a client that could hang up."""


class Gone(Exception):
    """The peer hung up."""


class Talk:
    """One connection, as the upstream sees it."""

    def __init__(self, upstream, connection, number):
        self.number = number
        self.socket = connection
        self._upstream = upstream
        self._unread = bytearray()

    def request(self):
        """The body of the next request."""
        return self.rest(self.head())

    def head(self):
        """The head of the next request."""
        head = self._read(b"\r\n\r\n")
        self._upstream.heads.put(head)
        return head

    def rest(self, head):
        """The body of the request with this head."""
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = self._read(int(length[1]) if length else 0)
        self._upstream.bodies.put(body)
        return body

    def _read(self, end):
        """What comes up to and including the bytes ``end``, or as many bytes as ``end`` says."""
        while (size := self._size(end)) is None:
            data = self.socket.recv(2**20)
            if not data:
                raise Gone
            self._unread += data
        read = bytes(self._unread[:size])
        del self._unread[:size]
        return read

    def _size(self, end):
        if isinstance(end, int):
            return end if len(self._unread) >= end else None
        return self._unread.index(end) + len(end) if end in self._unread else None

    def send(self, *pieces):
        """Send each of ``pieces`` by itself: in a packet, and in a TLS record if it is not too large."""
        for piece in pieces:
            self.socket.sendall(piece)

    def answer(self, body, kind="text/event-stream", *headers):
        """Send a whole answer."""
        self.send(head(*headers, f"content-type: {kind}", f"content-length: {len(body)}") + body)

    def wait(self):
        """Say nothing until the test has the upstream go on."""
        if not self._upstream.released.acquire(timeout=PATIENCE):
            raise Gone

    def hold(self):
        """Say nothing more until the peer hangs up."""
        try:
            while self.socket.recv(2**16):
                pass
        except TimeoutError:
            return
        except OSError:
            pass
        self._upstream.gone.set()
        raise Gone

    def reset(self):
        """Close the connection so that the peer gets an error."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        raise Gone


class RawUpstream:
    """Has ``play(talk)`` talk on every connection, in a thread of its own. A context manager."""

    def __init__(self, play, *, tls=None, receive_buffer=None):
        """:param tls: an SSL context of the server's side.
        :param receive_buffer: bytes that the system takes on behalf of the upstream before it reads them.
        """
        self.bodies = queue.Queue()
        """Bodies of the requests in the order in which they came."""
        self.heads = queue.Queue()
        """And their heads, as they came."""
        self.gone = threading.Event()
        """Set when a peer hung up on an upstream at ``Talk.hold``."""
        self.connections = 0
        self.released = threading.Semaphore(0)
        self._play = play
        self._tls = tls
        self._sockets = []
        self._talking = []
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(100)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self):
        return "http{}://{}:{}".format("s" if self._tls else "", *self._listener.getsockname())

    def wait_for_request(self):
        return self.bodies.get(timeout=PATIENCE)

    def go_on(self):
        """End one ``Talk.wait``."""
        self.released.release()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """End all talks. Each thread closes its own socket: closed by another, its number could be a new one's while
        the thread still reads, and what the new one is sent would be lost."""
        shut_down(self._listener)
        self._accepting.join(PATIENCE)
        self.released.release(len(self._talking) + 1)
        for each in self._sockets:
            shut_down(each)
        for thread in self._talking:
            thread.join(PATIENCE)

    def _accept(self):
        with contextlib.suppress(OSError), self._listener:
            while True:
                connection, _ = self._listener.accept()
                self._sockets.append(connection)
                connection.settimeout(2 * PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                thread = threading.Thread(target=self._talk, args=(connection, self.connections), daemon=True)
                self._talking.append(thread)
                thread.start()

    def _talk(self, connection, number):
        with contextlib.suppress(OSError, Gone), contextlib.ExitStack() as at_end:
            at_end.callback(connection.close)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                at_end.callback(connection.close)
                self._sockets.append(connection)
                connection.do_handshake()
            self._play(Talk(self, connection, number))


def shut_down(connection):
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS: that belongs to the thread that speaks it


def head(*headers, status="200 OK"):
    """The head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def chunked(*pieces):
    """``pieces``, each as a chunk."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def new_client(folder, **settings):
    """An ``HttpClient``, for tests that need no gateway around it."""
    environ = {f"FLOWAY_{name.upper()}": str(value) for name, value in settings.items()}
    return HttpClient(load_settings({"FLOWAY_DATA_DIR": str(folder), **environ}))


def read_whole(reply):
    """The body of ``reply``; fails if it does not come to its end."""
    pieces = []
    try:
        while piece := reply.body.read(PATIENCE):
            pieces.append(piece)
        assert piece == b"", f"only {len(b''.join(pieces))} bytes came"
    finally:
        reply.body.close()
    return b"".join(pieces)
