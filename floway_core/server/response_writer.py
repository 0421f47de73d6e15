"""Answers as they leave on a client's connection: gunicorn's, the head together with the first bytes of the body."""

import functools
import time

from gunicorn import util
from gunicorn.http.wsgi import Response


class ResponseWriter(Response):
    """Saves the system call that gunicorn spends on the head alone, and often the client one for reading it.

    ``headers_sent`` says just that: until then, another answer can take the place of this one.
    """

    def send_headers(self) -> None:
        """Nothing yet: the head leaves with what is sent next, at the latest by ``close``."""

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def close(self) -> None:
        """Send what is left when the body has ended."""
        self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        if not self.headers_sent:
            data = self._head() + data
            self.headers_sent = True
        if data:
            self.sock.sendall(data)

    def _head(self) -> bytes:
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        lines = [
            "HTTP/{}.{} {}".format(*self.req.version, self.status),
            f"Server: {self.version}",
            f"Date: {_date(int(time.time()))}",
            f"Connection: {connection}",
            *(["Transfer-Encoding: chunked"] if self.chunked else []),
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


@functools.lru_cache(maxsize=1)
def _date(unix_seconds: int) -> str:
    """As HTTP has it: the same in all answers of a second."""
    return util.http_date(unix_seconds)
