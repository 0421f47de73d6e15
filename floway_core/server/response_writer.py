"""Send responses with gunicorn's class, without blocking, and with head and body in one system call."""

import functools
import re
import socket
import time
from collections.abc import Iterable
from typing import Any

from gunicorn import util

from floway_core.server.gunicorn_hooks import HookedResponse
from floway_core.server.send_buffer import JOIN_BYTES, SendBuffer, frame_chunk

_USUAL_NAME = re.compile(r"[A-Za-z0-9-]+")


class ResponseWriter(HookedResponse):
    """Sends the head together with the first bytes of the body. A loop sends the bytes in ``unsent``, which the client
    has not accepted at once.

    Until ``headers_sent`` another response can be sent instead of this one.
    """

    headers_sent: bool

    def __init__(self, request: Any, sock: socket.socket, cfg: Any, unsent: SendBuffer) -> None:
        """:param unsent: the buffer of the connection."""
        super().__init__(request, sock, cfg)
        self._unsent = unsent

    def process_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Check and take the headers of the application, as gunicorn does.

        gunicorn only checks most of them. It need not do that for each response: names are usually those of earlier
        ones, and values printable ASCII.
        """
        for name, value in headers:
            if is_plain_name(name) and type(value) is str and value.isascii() and value.isprintable():
                self.headers.append((name, value.strip(" ")))
            else:
                super().process_headers([(name, value)])

    def send_headers(self) -> None:
        """Do nothing yet: the head is sent with the next bytes, at the latest by ``close``."""

    def send_head(self) -> None:
        """Send the head now, if it has not been sent."""
        self._send(b"")

    def send_body(self, data: bytes) -> None:
        self._send(*frame_chunk(data) if self.chunked else (data,))

    def close(self) -> None:
        """Send the end of the body, and the head if nothing has been sent yet."""
        if self.chunked or not self.headers_sent:
            self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, first: bytes, *others: bytes) -> None:
        if not self.headers_sent:
            head = self._encode_head()
            self.headers_sent = True
            if len(first) <= JOIN_BYTES:
                first = head + first
            else:
                self._unsent.write(self.sock, head)
        if first:
            self._unsent.write(self.sock, first)
        for piece in others:
            self._unsent.write(self.sock, piece)

    def _encode_head(self) -> bytes:
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        lines = [
            "HTTP/{}.{} {}".format(*self.req.version, self.status),
            f"Server: {self.version}",
            f"Date: {_format_date(int(time.time()))}",
            f"Connection: {connection}",
            *(["Transfer-Encoding: chunked"] if self.chunked else []),
            *map(": ".join, self.headers),
        ]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


@functools.lru_cache(maxsize=256)
def is_plain_name(name: object) -> bool:
    """Return whether a header's name is valid, and gunicorn sends the header as it is: it means nothing to gunicorn.

    :returns: also false for valid names with unusual characters.
    """
    if type(name) is not str or not _USUAL_NAME.fullmatch(name):
        return False
    return name.lower() != "content-length" and not util.is_hoppish(name)


@functools.lru_cache(maxsize=1)
def _format_date(unix_seconds: int) -> str:
    """Format a date for HTTP. All responses of one second share it."""
    return str(util.http_date(unix_seconds))
