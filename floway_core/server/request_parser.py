"""Parsing requests that have arrived from a client: gunicorn's parser, stricter, which waits for large bodies only."""

import io
import socket
import weakref
from collections.abc import Set
from dataclasses import replace
from functools import partial
from typing import Any, cast

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    InvalidHeader,
    LimitRequestHeaders,
)
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader

from floway_core.server.gunicorn_hooks import POLICED_NAMES, HookedRequest
from floway_core.server.http_errors import RequestOutline, read_outline
from floway_core.server.incoming import IncomingRequest
from floway_core.server.request_body import LengthReader, LimitedChunkedReader, RequestBody
from floway_core.server.send_buffer import send_now

BODY_BUFFER_BYTES = 1024
"""Buffer for small reads of a body. Every request, and so every stream, holds one."""

MAX_DISCARDED_BYTES = 256 * 1024
"""Bytes of a body, which the application has not read, to discard for the sake of the next request."""

BODY_READ_BYTES = 32 * 1024
"""Bytes of a body to receive at a time."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ConnectionParser(RequestParser):  # type: ignore[misc]  # gunicorn has no annotations
    """Yields the requests of a connection. After one whose end is uncertain there is no other."""

    def __init__(
        self,
        cfg: Any,
        sock: socket.socket,
        client: Any,
        incoming: IncomingRequest,
        underscored: Set[str] = frozenset(),
    ) -> None:
        """:param incoming: holds the head of each request when it is parsed, and gets what follows the request.
        :param underscored: names of the headers with an underscore that plugins read, in lower case.
        """
        super().__init__(cfg, sock, client)
        self.mesg_class = partial(_Request, underscored)
        self.unreader = _Unreader(sock, BODY_READ_BYTES)
        self._incoming = incoming
        self._head = b""
        """What has arrived of a request that is not valid, or of one that is being parsed."""

    @property
    def outline(self) -> RequestOutline:
        """The outline of the request that was parsed last, even if it is not valid; empty if there is none."""
        if self._head or not self.mesg:
            return read_outline(self._head)
        names = frozenset(name.lower() for name, _ in self.mesg.headers)
        return replace(read_outline(f"- {self.mesg.uri}".encode("latin-1", "replace")), header_names=names)

    def __next__(self) -> "_Request":
        """Parse the next request. What has arrived of it holds the head, unless that is too large.

        :raises ParseException: it is not valid.
        """
        is_late = self._incoming.is_late
        data = self._head = self._incoming.take()
        self.unreader.arrived = data
        self.unreader.is_in_head, self.unreader.expects_continue = True, False
        try:
            request: _Request = super().__next__()
            self._head = b""  # a stream lasts
            return request
        finally:
            self.unreader.is_in_head = False
            self.unreader.flags = socket.MSG_DONTWAIT if is_late else 0

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """Read what the application has left of the body, as far as it has arrived.

        :returns: whether the whole body has been read.
        """
        if not self.mesg or self.mesg.body.raw.ended or not self.mesg.body.raw.remaining:
            return True
        self.unreader.flags = socket.MSG_DONTWAIT
        try:
            return bool(super().finish_body(None, MAX_DISCARDED_BYTES))
        except (OSError, ValueError):  # ValueError: the application has closed it
            return False

    def finish_request(self) -> bool:
        """Read to the end of the request, and put what follows it back into the ``incoming`` one.

        :returns: whether another request may follow.
        """
        if not self.finish_body():
            return False
        if self.unreader.buf.getbuffer().nbytes:
            self._incoming.add(self.unreader.take_buffered())
        return True


class _Unreader(SocketUnreader):  # type: ignore[misc]  # gunicorn has no annotations
    """Receives from the socket what belongs to a body."""

    arrived = b""
    """What has arrived of a request, and has not been read yet."""

    is_in_head = False
    """Whether the head of a request is parsed, for which nothing is received."""

    expects_continue = False
    """Whether the client sends the body only if it is told to. gunicorn would tell it before the request is admitted,
    and wait until it accepts that."""

    flags = 0
    """Of ``recv``: ``MSG_DONTWAIT`` if nobody waits for the rest of the body."""

    def read(self, size: int | None = None, **hint: int) -> bytes:
        """Read bytes: at most ``size``, or as many as there are.

        :param hint: how many gunicorn 27 would like.
        """
        if size is None and self.arrived:
            data, self.arrived = self.arrived, b""
            return data
        return bytes(super().read(size, **hint))

    def chunk(self, *size_hint: int | None) -> bytes:
        """Receive bytes. gunicorn 27 says how many it would like; as many as there are will do.

        :raises LimitRequestHeaders: the head has no end within its limit.
        :raises BlockingIOError: nothing has arrived in time.
        """
        if self.is_in_head:
            raise LimitRequestHeaders("head")
        if self.expects_continue and not self.flags:
            self.expects_continue = False
            send_now(self.sock, CONTINUE)
        data: bytes = self.sock.recv(self.mxchunk, self.flags)
        return data


class _Request(HookedRequest):
    """Rejects what two servers in a row may parse differently: line ends without CR, and folded headers.

    WSGI cannot tell ``-`` from ``_`` in the name of a header, so headers with an underscore do not reach the WSGI
    environment. Those that plugins read are stored in ``underscored``.
    """

    def __init__(self, underscored_names: Set[str], *args: Any) -> None:
        self._underscored_names = underscored_names
        self.underscored: dict[str, str] = {}
        """Headers with an underscore in their name, by that name in lower case. Only those that plugins read."""
        self._closes: bool | None = None
        """Whether the headers demand that the connection be closed; None until that is known."""
        super().__init__(*args)

    def should_close(self) -> bool:
        """Return whether the connection is to be closed after the response."""
        if self._closes is None:
            self._closes = bool(super().should_close())
        return self.must_close or self._closes

    def is_from_trusted_proxy(self) -> bool:
        """Trust nobody if the list of proxies is empty.

        gunicorn trusts every peer of a Unix socket, and for others parses the address before it looks into the list.
        """
        return bool(self.cfg.forwarded_allow_ips) and super().is_from_trusted_proxy()

    def filter_header(self, name: str, value: str, *state: Any, from_trailer: bool = False) -> tuple[str, str] | None:
        if name not in POLICED_NAMES and "_" not in name and not self.cfg.forwarded_allow_ips:
            return name, value
        if "_" in name and (lower_name := name.lower()) in self._underscored_names and not from_trailer:
            earlier = self.underscored.get(lower_name)
            self.underscored[lower_name] = value if earlier is None else f"{earlier},{value}"  # like WSGI
            return None
        if name == "EXPECT" and value.lower() == "100-continue" and not from_trailer:
            self.unreader.expects_continue = self.version >= (1, 1)
            return name, value
        return super().filter_header(name, value, *state, from_trailer=from_trailer)

    @property
    def has_whole_body(self) -> bool:
        """Whether the rest of the body has arrived. Of one in chunks this is unknown until it has been read."""
        raw: RequestBody = self.body.raw
        return raw.ended or raw.remaining <= self.unreader.buf.getbuffer().nbytes

    def parse_head(self, unreader: _Unreader, buffer: bytearray) -> bytes:
        try:
            rest = super().parse_head(unreader, buffer)
        except ValueError as error:  # gunicorn's, of a target that is no URI
            raise InvalidHeader("target") from error
        del buffer[len(buffer) - len(rest) :]
        if buffer.count(b"\n") != buffer.count(b"\r\n") or buffer.find(b"\n ") >= 0 or buffer.find(b"\n\t") >= 0:
            raise InvalidHeader("line end")
        hosts = [name for name, _ in self.headers].count("HOST")
        if hosts > 1 or (not hosts and self.version >= (1, 1)):  # RFC 9112, section 3.2
            raise InvalidHeader("host")
        if self.method == "CONNECT":  # what follows may be meant for a tunnel: RFC 9931, section 8
            self.force_close()
        return rest

    def set_body_reader(self) -> None:
        super().set_body_reader()
        request = cast(_Request, weakref.proxy(self))  # a cycle would wait for the garbage collector
        reader = self.body.reader
        if isinstance(reader, ChunkedReader):
            reader = LimitedChunkedReader(request, self.unreader)
        else:
            reader = LengthReader(request, reader.length)
        self.body = io.BufferedReader(RequestBody(request, reader), BODY_BUFFER_BYTES)
