"""The page that the browser comes back to after a sign-in, served once, on loopback."""

import queue
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Self
from urllib.parse import urlsplit

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Floway</title></head>
<body><p>{}</p></body>
</html>
"""
RECEIVED = "Floway has received the sign-in. You can close this page and go back to the terminal."
NOT_THIS = "This does not belong to the sign-in that Floway waits for."
PATIENCE = 10
"""Seconds that a connection may be silent. Browsers open some in advance."""


class Callback(socketserver.ThreadingTCPServer):
    """Listens from the moment it is made. A context manager.

    :raises OSError: somebody else listens on the port.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, path: str) -> None:
        super().__init__(("127.0.0.1", port), _Page)
        self._path = path
        self._accepts: Callable[[str], bool] = lambda url: False
        self._received: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._done = False
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def wait(self, accepts: Callable[[str], bool], timeout: float) -> str:
        """The first URL that the browser asks for on the path and that is accepted; all others are refused.

        :param timeout: seconds.
        :raises TimeoutError: none came.
        """
        self._accepts = accepts
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            return self._received.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        finally:
            self.shutdown()

    def __enter__(self) -> Self:
        return self

    def answer(self, url: str) -> int:
        """The status for ``url``; 200 for one alone."""
        if urlsplit(url).path != self._path:
            return 404
        if not self._accepts(url):
            return 400
        with self._lock:
            done, self._done = self._done, True
        return 400 if done else 200

    def deliver(self, url: str) -> None:
        self._received.put(url)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # a browser that went away is no news
            super().handle_error(request, client_address)


class _Page(BaseHTTPRequestHandler):
    server: Callback
    timeout = PATIENCE

    def do_GET(self) -> None:
        status = self.server.answer(self.path)
        page = PAGE.format(RECEIVED if status == 200 else NOT_THIS).encode()
        try:
            self.send_response_only(status)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(page)))
            self.send_header("cache-control", "no-store")
            self.send_header("referrer-policy", "no-referrer")
            self.end_headers()
            self.wfile.write(page)
        finally:
            if status == 200:
                self.server.deliver(self.path)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the URL holds the code."""
