"""The HTTP server of the simulator: reads requests, writes responses, detects disconnected clients."""

import selectors
import socket
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard

from . import control, websocket
from .recording import RecordedRequest, decode_request
from .responses import EventStream, Headers, PlainResponse, Silence
from .simulation import Simulation

ZSTD = ("content-encoding", "zstd")


class SimulatorStopped(Exception):
    """The simulator stopped while a response was in progress."""


class HttpServer(ThreadingHTTPServer):
    """The listening socket and its connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], simulation: Simulation) -> None:
        super().__init__(address, Handler)
        self.simulation = simulation
        self.connections: set[socket.socket] = set()
        self.connections_change = threading.Condition()
        # Readable once the simulator stops: silent responses poll it together with their client.
        self.stopped, self._stop = socket.socketpair()

    def close(self) -> None:
        """Stop listening, end every silent response, close every connection."""
        self._stop.close()
        self.shutdown()
        self.server_close()
        with self.connections_change:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client has closed it
            self.connections_change.wait_for(lambda: not self.connections, timeout=2)
        self.stopped.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Called by socketserver for each connection; remembers it."""
        with self.connections_change:
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Called by socketserver at the end of each connection; forgets it."""
        with self.connections_change:
            self.connections.discard(request)
            self.connections_change.notify_all()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called by socketserver, for an exception while a request is served."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One client connection; keeps it open between requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing; the log of requests has everything."""

    def do_ANY(self) -> None:
        """Read a request, and write its response."""
        if self.headers.get("transfer-encoding"):  # the CLI always sends content-length
            self.close_connection = True
            return self.send(PlainResponse(411, b"Length Required\n"))
        length = self.headers.get("content-length") or "0"
        if not (length.isascii() and length.isdigit()):
            self.close_connection = True
            return self.send(PlainResponse(400, b"Bad Request\n"))
        raw = self.rfile.read(int(length))
        request = decode_request(self.command, self.path, list(self.headers.items()), raw)
        if self.path.startswith(control.PREFIX):
            return self.send(control.handle_control(self.server.simulation, request))
        self.server.simulation.log.add(request)
        if websocket.is_upgrade(request):
            self.close_connection = True
            return websocket.serve(self, request)
        self.server.simulation.wait_while_held()
        try:
            self.respond(request)
        except SimulatorStopped:
            self.close_connection = True
        except ConnectionError:
            request.client_gone.set()
            self.close_connection = True
        finally:
            request.done.set()

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_ANY

    def respond(self, request: RecordedRequest) -> None:
        """Send the response to a recorded request; ConnectionError if the client has disconnected."""
        response = self.server.simulation.backend.respond(request)
        request.answered = response.note
        if isinstance(response, PlainResponse):
            request.status = response.status
            self.send(response)
        elif isinstance(response, Silence):
            self.wait_for_client(None)
            self.close_connection = True
        else:
            request.status = 200
            self.stream(response)

    def compresses(self) -> bool:
        """Whether to compress the response to this request."""
        return self.server.simulation.compresses and "zstd" in self.headers.get("accept-encoding", "")

    def send(self, response: PlainResponse) -> None:
        """Write a complete response."""
        headers, body = response.headers, response.body
        if self.compresses():
            headers, body = (*headers, ZSTD), zstandard.compress(body)
        self.send_head(response.status, (*headers, ("content-length", str(len(body)))), body)

    def stream(self, response: EventStream) -> None:
        """Write events one chunk each, with their delays; the last one together with the end of the body."""
        compressor = zstandard.ZstdCompressor().compressobj() if self.compresses() else None
        coding = (ZSTD,) if compressor else ()
        self.send_head(200, (*response.headers, *coding, ("transfer-encoding", "chunked")))
        for number, (delay, frame) in enumerate(response.frames, 1):
            self.wait_for_client(delay)
            if compressor:
                last = number == len(response.frames)
                flush = zstandard.COMPRESSOBJ_FLUSH_FINISH if last else zstandard.COMPRESSOBJ_FLUSH_BLOCK
                frame = compressor.compress(frame) + compressor.flush(flush)
            # A client may disconnect at the terminal event. One write for both avoids an error then.
            ends = number == len(response.frames) and response.then == "end"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame) + (b"0\r\n\r\n" if ends else b""))
        if response.then == "end" and not response.frames:
            self.wfile.write(b"0\r\n\r\n")
        if response.then == "hang":
            self.wait_for_client(None)
        self.close_connection |= response.then != "end"

    def send_head(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Write status line and headers, and what follows at once."""
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}", f"date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.close_connection |= ("connection", "close") in headers
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def wait_for_client(self, seconds: float | None) -> None:
        """Wait for seconds (None: forever); ConnectionError if the client disconnects, or SimulatorStopped."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            selector.register(self.server.stopped, selectors.EVENT_READ)
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = {key.fileobj for key, _ in selector.select(left)}
                if self.server.stopped in ready:
                    raise SimulatorStopped
                if not ready:
                    return
                if self.connection.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError("the client disconnected")
                selector.unregister(self.connection)  # a pipelined request: a disconnect cannot be detected any more
