"""Requests as they come off a client's connection: gunicorn's parser, stricter, and with an end to all waiting."""

import io
import socket
import time
from collections.abc import Set
from functools import partial
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidChunkExtension,
    InvalidHeader,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

from floway_core.errors import GatewayError

READ_SIZE = 32 * 1024
"""Bytes that are read from a connection at a time."""

SMALL_READ = 1024
"""Bytes of a body that are read for whoever wants fewer. Every request, and so every stream, keeps room for them."""

LONGEST_FRAMING = 32 * 1024
"""Bytes that the size of a chunk with its extensions, or all trailers, may have."""

REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    LimitRequestLine: (414, "URI Too Long", "The request line is too long."),
    LimitRequestHeaders: (431, "Request Header Fields Too Large", "The headers are too many or too large."),
    ExpectationFailed: (417, "Expectation Failed", "The expectation in this request cannot be met."),
    UnsupportedTransferCoding: (501, "Not Implemented", "The transfer-encoding of this request is not supported."),
    ParseException: (400, "Bad Request", "The request is not valid HTTP."),
    Exception: (500, "Internal Server Error", "The gateway failed to serve this request."),
}


def refusal(error: Exception, request_id: str) -> bytes:
    """The whole answer to a request that did not get as far as the application.

    It quotes nothing of the request: what cannot be parsed may hold a key.
    """
    status, reason, message = next(told for kind, told in REFUSALS.items() if isinstance(error, kind))
    content = GatewayError(status, message, code="invalid_http" if status < 500 else None).content()
    head = f"HTTP/1.1 {status} {reason}\r\nconnection: close\r\ncontent-type: application/json\r\n"
    head += f"x-request-id: {request_id}\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class ConnectionParser(RequestParser):
    """Cuts a connection into requests; where it cannot tell where the next one begins, there is none."""

    def __init__(
        self, cfg: Any, sock: socket.socket, client: Any, patience: float, underscored: Set[str] = frozenset()
    ) -> None:
        """:param patience: seconds for the head of a request.
        :param underscored: the headers with an underscore in their name that are read, in lower case.
        """
        super().__init__(cfg, sock, client)
        self.mesg_class = partial(_Request, underscored)
        self.unreader = _Unreader(sock, READ_SIZE)
        self._patience = patience

    @property
    def ahead(self) -> bool:
        """Whether bytes of the next request have been read already: nothing will announce them."""
        return bool(self.unreader.buf.getbuffer().nbytes)

    def __next__(self) -> Request:
        """:raises BlockingIOError: the head does not come to its end in time."""
        self.unreader.deadline = time.monotonic() + self._patience
        try:
            return super().__next__()
        finally:
            self.unreader.deadline = None

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        if self.mesg and self.mesg.body.raw.ended:
            return True
        before = self.unreader.deadline
        self.unreader.deadline = deadline or before
        try:
            return super().finish_body(deadline, max_bytes)
        except (OSError, ValueError):  # ValueError: the application has closed it
            return False
        finally:
            self.unreader.deadline = before


class _Unreader(SocketUnreader):
    """Does not read on beyond a deadline: a client that sends a byte now and then never stands still."""

    deadline: float | None = None
    """In monotonic time. None while the application reads a body: nobody can tell how long that may take."""

    def chunk(self) -> bytes:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise BlockingIOError  # as when the timeout of the socket is over
        return super().chunk()


class _Request(Request):
    """Refuses what two servers in a row may read differently: line ends without CR, and folded headers.

    WSGI's environment cannot tell ``-`` from ``_`` in the name of a header, so none with an underscore gets there.
    Those that somebody reads are kept apart.
    """

    def __init__(self, read: Set[str], *args: Any) -> None:
        self._read = read
        self.underscored: dict[str, str] = {}
        """Headers with an underscore in their name, by that name in lower case. Only those that are read."""
        super().__init__(*args)

    def _peer_is_trusted_proxy(self) -> bool:
        """As gunicorn's, which parses the address of the client before it looks into a list that is empty; and trusts
        all who come through a Unix socket, a proxy's clients too."""
        return bool(self.cfg.forwarded_allow_ips) and super()._peer_is_trusted_proxy()

    def _apply_header_policy(self, name: str, value: str, *args: Any, from_trailer: bool = False) -> Any:
        if "_" in name and (spelled := name.lower()) in self._read and not from_trailer:
            before = self.underscored.get(spelled)
            self.underscored[spelled] = value if before is None else f"{before},{value}"  # as WSGI does with others
            return None
        return super()._apply_header_policy(name, value, *args, from_trailer=from_trailer)

    def _parse_fast(self, unreader: _Unreader, buf: bytearray) -> bytes:
        rest = super()._parse_fast(unreader, buf)
        head = bytes(buf[: len(buf) - len(rest)])
        if head.count(b"\n") != head.count(b"\r\n") or b"\n " in head or b"\n\t" in head:
            raise InvalidHeader("line end")
        return rest

    def set_body_reader(self) -> None:
        super().set_body_reader()
        reader = self.body.reader
        if isinstance(reader, ChunkedReader):
            reader = _ChunkedReader(self, self.unreader)
        else:
            reader = _LengthReader(self, reader.length)
        self.body = io.BufferedReader(_RawBody(self, reader), SMALL_READ)


class _RawBody(io.RawIOBase):
    """Ends the connection with a body that is damaged: what follows it must not be taken for a request."""

    def __init__(self, request: Request, reader: Any) -> None:
        self._request = request
        self._reader = reader
        self.ended = False
        """Whether all of it has been read, its end, too."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        """:raises OSError: the body is damaged, or does not come."""
        try:
            data = self._reader.read(len(buffer))
        except OSError:
            self._request.force_close()
            raise
        except ParseException as error:  # of a trailer
            self._request.force_close()
            raise NoMoreData from error
        buffer[: len(data)] = data
        self.ended = not data
        return len(data)


class _LengthReader:
    """A body of so many bytes, as they arrive; gunicorn's hands them out by the kilobyte and puts the rest back."""

    def __init__(self, request: Request, length: int) -> None:
        self._request = request
        self._left = length

    def read(self, size: int) -> bytes:
        """Some of it, at most ``size`` bytes; ``b""`` at its end, or that of the connection."""
        size = min(size, self._left)
        if not size:
            return b""
        data = self._request.unreader.read()
        if not data:
            self._request.force_close()
        if len(data) > size:
            self._request.unreader.unread(data[size:])
            data = data[:size]
        self._left -= len(data)
        return data


class _ChunkedReader(ChunkedReader):
    """Keeps what frames the chunks within bounds."""

    def parse_chunk_size(self, unreader: _Unreader, data: bytes | None = None) -> tuple[int, bytes | None]:
        data = data or b""
        while b"\n" not in data:
            if len(data) > LONGEST_FRAMING:
                raise InvalidChunkExtension("too long")
            if not (more := unreader.read()):
                raise NoMoreData
            data += more
        if not data[: data.index(b"\n")].endswith(b"\r"):
            raise InvalidChunkExtension("bare LF not allowed")
        return super().parse_chunk_size(unreader, data)

    def get_data(self, unreader: _Unreader, buf: Any) -> None:
        """More of the trailers."""
        if buf.tell() > LONGEST_FRAMING:
            raise InvalidChunkExtension("trailers too long")
        super().get_data(unreader, buf)
