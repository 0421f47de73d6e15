"""gunicorn's worker with threads, as Floway needs it: patient with streams, and not with clients that stand still."""

import contextlib
import math
import os
import select
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker
from uuid6 import uuid7

from floway_core.engine.relay import Relay
from floway_core.protocol.headers import UNDERSCORED
from floway_core.server.request_parser import ConnectionParser, refusal
from floway_core.server.response_writer import ResponseWriter
from floway_core.server.stream_loop import Stream, StreamLoop
from floway_core.web import RELAY

NEXT_REQUEST_WAIT = 0.05
"""Seconds that a thread waits on a connection for the next request. After that the main loop does, for as long as
connections are kept; but handing over and back takes longer than serving a small request."""

LINGERING_CLOSE = 2.0
"""Seconds that a client gets to close a connection on which it was told the last answer, and for which an unused
connection is still served after the order to stop: its next request may be on the way."""

FINAL_EVENTS_MARGIN = 2.0
"""Seconds before the end of the grace time at which what still runs is told to end. After half of them the worker
leaves by itself: at the end of the grace time it would be killed."""

TICK = 0.1
"""Seconds between two looks at the clock while stopping."""

RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing drops what was not sent."""


class Worker(ThreadWorker):
    """Threads are for requests only: connections wait in the main loop for their first byte, for another request and
    for their end.

    SIGTERM ends the worker when its requests have ended, or the grace time is over; SIGINT and SIGQUIT end it now.
    Requests that still run then fail with ``ShuttingDown``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told_to_end_at = self._ends_at = math.inf
        self._closing: dict[TConn, None] = {}

    # ------------------------------------------------------------------------------------------------ in the threads
    def handle(self, conn: TConn, answer: "_ClientResponse | None" = None) -> bool | None:
        """Serve requests that come in quick succession.

        :param answer: a stream to be gone on with, before all others.
        :returns: whether another may come later; None while a stream goes on without a thread.
        """
        kept = self._serve(conn, answer)
        while (
            kept
            and self.alive
            and (conn.parser.ahead or (self.nr_conns <= self.cfg.threads and _readable(conn, NEXT_REQUEST_WAIT)))
        ):
            kept = self._serve(conn)
        return kept

    def _serve(self, conn: TConn, answer: "_ClientResponse | None" = None) -> bool | None:
        request = answer and answer.request
        try:
            conn.sock.setblocking(True)
            if conn.parser is None:
                conn.parser = ConnectionParser(
                    self.cfg, conn.sock, conn.client, self._client_timeout, self._underscored
                )
            conn.init()
            if answer is None:
                request = next(conn.parser)
                answer = self._begun(request, conn)
            kept = self._pass_on(answer)
            # A body that nobody has read is not waited for: it goes away with the connection.
            return kept and conn.parser.finish_body(deadline=time.monotonic() + NEXT_REQUEST_WAIT)
        except (NoMoreData, StopIteration):
            return False
        except (BlockingIOError, TimeoutError):  # how the timeouts of the socket show
            self.log.warning("Gave up a client that stood still for %g seconds: %s", self._client_timeout, _name(conn))
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            conn.sock.close()
            return False
        except OSError:
            return False  # the client is gone
        except Exception as error:
            self.handle_error(request, conn.sock, conn.client, error)
            return False

    def _begun(self, request: Any, conn: TConn) -> "_ClientResponse":
        """The answer to a request, of which nothing has been sent yet."""
        self.cfg.pre_request(self, request)
        made = wsgi.create(request, conn.sock, conn.client, conn.server, self.cfg, response_class=ResponseWriter)
        answer = _ClientResponse(conn, request, *made)
        answer.environ["wsgi.multithread"] = True
        answer.environ[UNDERSCORED] = request.underscored
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived:
            answer.response.force_close()
        answer.source = self.wsgi(answer.environ, answer.response.start_response)
        return answer

    def _pass_on(self, answer: "_ClientResponse") -> bool | None:
        """Send what is left of an answer; a stream leaves for the loop as soon as it has to wait.

        :returns: as ``handle``.
        """
        left = False
        try:
            upstream = answer.resumed_or_begun()
            for piece in answer.pieces:
                if piece:
                    answer.response.write(piece)
                elif piece is None:
                    answer.relay.set_blocking()
                elif upstream is not None:
                    answer.conn.sock.setblocking(False)
                    stream = answer.as_stream(upstream, self._resume_in_thread)
                    left = True  # another thread may end it before this one gets any further
                    self._streams.add(stream)
                    return None
            answer.response.close()
            return not answer.response.should_close()
        except OSError:
            raise
        except Exception:  # the head has left: all that can still be done is to end the connection
            if not answer.response.headers_sent:
                raise
            self.log.exception("Sending an answer failed")
            return False
        finally:
            if not left:
                self._end(answer)

    def _end(self, answer: "_ClientResponse") -> None:
        request, response, environ = answer.request, answer.response, answer.environ
        self.log.access(response, request, environ, datetime.now() - answer.started)
        try:
            if hasattr(answer.source, "close"):
                answer.source.close()
        finally:
            self.cfg.post_request(self, request, environ, response)

    def _resume_in_thread(self, answer: "_ClientResponse") -> None:
        """Let a thread go on with a stream. Called in the loop."""
        served = self.tpool.submit(self.handle, answer.conn, answer)
        served.add_done_callback(lambda served: self.method_queue.defer(self.finish_request, answer.conn, served))

    def handle_error(self, request: Any, sock: socket.socket, client: Any, error: Exception) -> None:
        """Answer what did not get as far as the application."""
        request_id = str(uuid7())
        if isinstance(error, ParseException):
            self.log.warning("Refused request %s, which is not valid HTTP: %s", request_id, type(error).__name__)
        else:
            self.log.exception("Request %s failed outside of the application", request_id)
        with contextlib.suppress(OSError):
            sock.sendall(refusal(error, request_id))

    # ---------------------------------------------------------------------------------------------- in the main loop
    def load_wsgi(self) -> None:
        # As attributes: gunicorn asks for two dozen settings per request, and looks each up in a table of objects.
        vars(self.cfg).update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().load_wsgi()
        gateway = self.wsgi.extensions["floway"]
        self._ending = gateway.shutdown
        self._store_usage = partial(gateway.usage.flush, gateway.services.database)
        settings = gateway.settings
        self._client_timeout = settings.client_timeout
        self._underscored = gateway.providers.underscore_headers
        tick = min(1.0, settings.keepalive_interval / 4, settings.idle_timeout / 4)
        self._streams = StreamLoop(gateway.shutdown.fileno(), self._client_timeout, tick)
        self._streams.start()

    def accept(self, listener: socket.socket) -> None:
        try:
            super().accept(listener)
        except OSError as error:  # of files or memory: others may be served nevertheless
            self.log.error("A connection could not be accepted: %s", error)
            time.sleep(TICK)

    def enqueue_req(self, conn: TConn) -> None:
        if conn.data_ready or conn.initialized:
            super().enqueue_req(conn)
        else:
            if self.nr_conns >= self.worker_connections:
                self._drop_idle_connection()
            _set_socket_timeouts(conn.sock, self._client_timeout)
            self._wait_for(conn, self.pending_conns, self.on_pending_socket_readable)

    def _drop_idle_connection(self) -> None:
        """Drop the connection that is needed least: else new ones would wait, unanswered, until an old one ends."""
        if self._closing:
            self._forget(next(iter(self._closing)))
        elif idle := self.keepalived_conns or self.pending_conns:
            conn = idle.popleft()
            self.poller.unregister(conn.sock)
            self._drop(conn)

    def finish_request(self, conn: TConn, served: Future[bool | None]) -> None:
        if error := served.exception():
            self.log.error("Serving a connection failed", exc_info=error)
        if not error and served.result() is None:
            return
        if not error and served.result():
            self._wait_for(conn, self.keepalived_conns, self.on_client_socket_readable)
        else:
            self._close_gracefully(conn)

    def _wait_for(self, conn: TConn, waiting: Any, callback: Callable) -> None:
        conn.timeout = time.monotonic() + min(
            self._client_timeout, self.cfg.keepalive if self.alive else LINGERING_CLOSE
        )
        conn.sock.setblocking(False)
        waiting.append(conn)
        self._watch(conn, callback)

    def _watch(self, conn: TConn, callback: Callable) -> None:
        def on_readable(sock: socket.socket) -> None:
            if sock.fileno() >= 0:  # else it was dropped since, to make room
                callback(conn, sock)

        self.poller.register(conn.sock, selectors.EVENT_READ, on_readable)

    def _close_gracefully(self, conn: TConn) -> None:
        """Close a connection when its client has: closing first could take from it what it has not read yet."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self._drop(conn)
            return
        conn.timeout = time.monotonic() + LINGERING_CLOSE
        self._closing[conn] = None
        self._watch(conn, self._on_closing)

    def _on_closing(self, conn: TConn, sock: socket.socket) -> None:
        try:
            if sock.recv(64 * 1024):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._forget(conn)

    def _forget(self, conn: TConn) -> None:
        del self._closing[conn]
        self.poller.unregister(conn.sock)
        self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        super().murder_pending()
        now = time.monotonic()
        for conn in [conn for conn in self._closing if conn.timeout <= now]:
            self._forget(conn)

    # ------------------------------------------------------------------------------------------------------ stopping
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        grace = self.cfg.graceful_timeout
        last_words = min(FINAL_EVENTS_MARGIN, grace / 4)
        self._stop(grace - last_words, grace - last_words / 2)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self._stop(0, FINAL_EVENTS_MARGIN / 2)

    def _stop(self, told_after: float, ends_after: float) -> None:
        now = time.monotonic()
        self._told_to_end_at = min(self._told_to_end_at, now + told_after)
        self._ends_at = min(self._ends_at, now + ends_after)
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, now + LINGERING_CLOSE)
        super().handle_exit(0, None)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self.alive:
            super().wait_for_and_dispatch_events(timeout)
            return
        self.notify()  # or the arbiter takes it for stuck
        now = time.monotonic()
        if now >= self._told_to_end_at:
            self._ending.announce()
            used = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
            if not used or now >= self._ends_at:
                self._leave(used - len(self._closing))
        super().wait_for_and_dispatch_events(min(timeout, TICK))

    def _leave(self, running: int) -> None:
        """End without waiting for the threads, as the interpreter would."""
        if running:
            self.log.warning("%d requests did not end in time and were cut off", running)
        self._store_usage()
        os._exit(0)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As gunicorn's. A worker that stops refuses new connections: else they would wait, unanswered, until the last
        stream has ended."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()


@dataclass(eq=False)
class _ClientResponse:
    """What is being sent to a client, and what that needs."""

    conn: TConn
    request: Any
    response: ResponseWriter
    environ: dict[str, Any]
    source: Any = ()
    """What the application returned."""
    pieces: Iterator[bytes | None] | None = None
    stream: Stream | None = None
    """As which it goes on while it has no thread."""
    started: datetime = field(default_factory=datetime.now)

    @property
    def relay(self) -> Relay | None:
        """Where a stream comes from."""
        return self.environ.get(RELAY)

    def resumed_or_begun(self) -> int | None:
        """Make ``pieces`` ready to be gone on with.

        :returns: if they do not wait for their upstream, a descriptor that becomes readable when they have more.
        :raises OSError: the client gets no more.
        """
        if self.stream is None:
            self.pieces = iter(self.source)
            # What TLS does with a socket is not for the loop.
            return self.relay.set_nonblocking() if self.relay and type(self.conn.sock) is socket.socket else None
        stream, self.stream = self.stream, None
        self.relay.set_blocking()
        if stream.error:
            raise stream.error
        self.response.sent += stream.sent
        self.conn.sock.sendall(stream.unsent)
        return None

    def as_stream(self, upstream: int, take_back: Callable[["_ClientResponse"], None]) -> Stream:
        """The answer as it goes on without a thread."""
        self.stream = Stream(
            pieces=self.pieces,
            upstream=upstream,
            client=self.conn.sock,
            chunked=self.response.chunked,
            on_leave=lambda stream: take_back(self),
        )
        return self.stream


def _readable(conn: TConn, timeout: float) -> bool:
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _set_socket_timeouts(sock: socket.socket, seconds: float) -> None:
    """Let reading from and sending to a client fail that stands still for so long, or does not answer any more."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if sock.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _name(conn: TConn) -> str:
    return "{}:{}".format(*conn.client[:2]) if isinstance(conn.client, tuple) else "a client"
