"""The loopback HTTP server that receives the browser after a sign-in."""

import queue
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import urlsplit

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Floway</title></head>
<body><p>{}</p></body>
</html>
"""
RECEIVED = "Floway has received the sign-in. You can close this page and go back to the terminal."
REJECTED = "This does not belong to the sign-in that Floway waits for."
IDLE_TIMEOUT_SECONDS = 10
"""How long a connection may stay idle; browsers open some in advance."""


class CallbackServer(socketserver.ThreadingTCPServer):
    """Receives the URL that a sign-in ends on. It listens once it is constructed. A context manager.

    :raises OSError: the port cannot be used.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, path: str) -> None:
        super().__init__(("127.0.0.1", port), _PageHandler)
        self._path = path
        self._accepts: Callable[[str], bool] = lambda url: False
        self._received: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._done = False
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self.server_address[1]

    def wait(self, accepts: Callable[[str], bool], timeout: float) -> str:
        """Wait for the first request on the path whose URL ``accepts`` approves; all others are refused.

        :param timeout: seconds.
        :raises TimeoutError: no such request arrived.
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

    def response_status(self, url: str) -> int:
        """The status of the response to ``url``. Only one request gets 200."""
        if urlsplit(url).path != self._path:
            return 404
        if not self._accepts(url):
            return 400
        with self._lock:
            done, self._done = self._done, True
        return 400 if done else 200

    def deliver(self, url: str) -> None:
        """Hand the URL of the browser's request to the waiting thread."""
        self._received.put(url)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called by socketserver, for an exception while a request is served."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # browsers close connections at any time
            super().handle_error(request, client_address)


class _PageHandler(BaseHTTPRequestHandler):
    server: CallbackServer
    timeout = IDLE_TIMEOUT_SECONDS

    def do_GET(self) -> None:
        status = self.server.response_status(self.path)
        page = PAGE.format(RECEIVED if status == 200 else REJECTED).encode()
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
        """Log nothing: the URL holds the code."""
