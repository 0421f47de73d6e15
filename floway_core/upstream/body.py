"""Reading the body of an answer as its bytes arrive on the socket.

``http.client`` reads chunk by chunk and blocks inside of one. Relaying needs the opposite: everything that has arrived,
at once, and otherwise the chance to look after the client. So once the head has been parsed, the body is read from the
socket itself and its framing (RFC 9112, section 6) is undone here.
"""

import http.client
import io
import re
import socket
import ssl
from typing import Any

import urllib3

from floway_core.contexts import Client
from floway_core.errors import UpstreamBroken
from floway_core.provider import ReplyBody
from floway_core.upstream.wait import Readiness

READ_SIZE = 64 * 1024
LONGEST_LINE = 16 * 1024
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError)


class WatchedFile(io.RawIOBase):
    """What ``http.client`` reads the head of an answer from: a socket, watched together with the client.

    The head may come in pieces, and TLS makes a socket readable when there is nothing to read yet; so the waiting is
    done here, where each single read is.
    """

    def __init__(self, file: socket.SocketIO, sock: socket.socket, client: Client | None) -> None:
        """:param file: as ``sock.makefile`` makes it; reading waits for the socket's timeout at the most."""
        self.sock = sock
        self.waits = True
        """False: read only what is there already."""
        self._file = file
        self._timeout = sock.gettimeout()
        self._readiness = Readiness(sock.fileno(), client)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(0)
        try:
            while (count := self._read_now(buffer)) is None and self.waits:
                if not self._readiness.wait(3600 if self._timeout is None else self._timeout):
                    raise TimeoutError
            return count
        finally:
            self.sock.settimeout(self._timeout)

    def _read_now(self, buffer: Any) -> int | None:
        try:
            return self._file.readinto(buffer)
        except ssl.SSLWantReadError:
            return None

    def close(self) -> None:
        self._file.close()
        super().close()


class SocketBody(ReplyBody):
    """The body of an answer that ``urllib3`` received with ``preload_content=False``."""

    def __init__(self, response: urllib3.HTTPResponse, head: http.client.HTTPResponse) -> None:
        """:param head: what ``http.client`` made of the head; its file reads from a ``WatchedFile``."""
        file: WatchedFile = head.fp.raw
        self._response = response
        self._head = head
        self._socket = file.sock
        self._framing = _framing(head)
        self._readiness: Readiness | None = None
        self._unread = b""
        self._reset = False
        self._closed = False
        file.waits = False
        try:
            self._unread = head.fp.read1(READ_SIZE) or b""  # what came in the same packet as the head
        except OSError:
            self._reset = True
        self._socket.settimeout(0)

    def read(self, timeout: float, client: Client | None = None) -> bytes | None:
        while not self._framing.ended:
            data, self._unread = self._unread, b""
            if not data:
                if self._reset:
                    raise UpstreamBroken("The upstream reset the connection in the middle of its answer.")
                if not self._wait(timeout, client):
                    return None
                try:
                    data = self._socket.recv(READ_SIZE)
                except NOTHING_YET:
                    continue
                except OSError:
                    self._reset = True
                    continue
            body = self._framing.unframe(data)
            if body:
                return body
        return b""

    def _wait(self, timeout: float, client: Client | None) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True  # decrypted already, where poll() cannot see it
        if self._readiness is None or self._readiness.client is not client:
            self._readiness = Readiness(self._socket.fileno(), client)
        return self._readiness.wait(timeout)

    def close(self) -> None:
        if self._closed:
            return  # by now the connection may serve another request
        self._closed = True
        reusable = self._framing.ended and not self._framing.excess and not self._unread and not self._head.will_close
        if reusable:
            self._socket.settimeout(None)
            self._head.close()
            self._response.release_conn()
        else:
            self._socket.close()
            self._response.close()


def _framing(head: http.client.HTTPResponse) -> "Chunked | Counted | UntilClosed":
    if head.chunked:
        return Chunked()
    return UntilClosed() if head.length is None else Counted(head.length)


class Chunked:
    """A body in chunks, each behind its size."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._left = 0
        self._after_chunk = False
        self._trailers = False

    @property
    def excess(self) -> bool:
        """Whether bytes came that do not belong to the body."""
        return bool(self._rest)

    def unframe(self, data: bytes) -> bytes:
        """The part of the body that is in ``data``.

        :param data: what was read; empty when the connection has ended.
        :raises UpstreamBroken: the connection ended early, or this is not chunked.
        """
        if not data:
            raise UpstreamBroken("The upstream closed the connection in the middle of its answer.")
        if self._rest:
            data = self._rest + data
        pieces, at = [], 0
        while not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._after_chunk = True
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > LONGEST_LINE:
                    raise UpstreamBroken("The upstream's chunked encoding is broken.")
                break
            line, at = data[at:end], end + 2
            self._take_line(line)
        self._rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_line(self, line: bytes) -> None:
        if self._trailers:
            self.ended = not line
        elif self._after_chunk:
            if line:
                raise UpstreamBroken("The upstream's chunked encoding is broken.")
            self._after_chunk = False
        elif size := CHUNK_SIZE.fullmatch(line):
            self._left = int(size[1], 16)
            self._trailers = not self._left
        else:
            raise UpstreamBroken("The upstream's chunked encoding is broken.")


class Counted:
    """A body whose length the head tells."""

    def __init__(self, length: int) -> None:
        self.ended = length == 0
        self.excess = False
        self._left = length

    def unframe(self, data: bytes) -> bytes:
        """As ``Chunked.unframe``."""
        if not data:
            raise UpstreamBroken("The upstream closed the connection in the middle of its answer.")
        self.excess = len(data) > self._left
        body = data[: self._left]
        self._left -= len(body)
        self.ended = not self._left
        return body


class UntilClosed:
    """A body that ends with the connection."""

    excess = False

    def __init__(self) -> None:
        self.ended = False

    def unframe(self, data: bytes) -> bytes:
        """As ``Chunked.unframe``, but the end of the connection is the end of the body."""
        self.ended = not data
        return data
