"""Answers as they leave on a client's connection: gunicorn's, the head together with the first bytes of the body."""

from typing import Any

from gunicorn.http.wsgi import Response


class Outgoing(Response):
    """Saves the system call that gunicorn spends on the head alone, and often the client one for reading it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._head = b""
        """What goes before the next bytes of the body."""

    def send_headers(self) -> None:
        """Have the head leave with what is sent next; ``close`` sends it alone."""
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._head = "".join(lines).encode("latin-1")
        self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def close(self) -> None:
        """Send what is left when the body has ended."""
        self.send_headers()
        self._send(b"0\r\n\r\n" if self.chunked else b"")

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if head or data:
            self.sock.sendall(head + data if head else data)
