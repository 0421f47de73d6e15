"""The worker process: gunicorn's threaded worker, with streams that need no thread and timeouts for stalled clients."""

import contextlib
import math
import os
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker
from uuid6 import uuid7

from floway_core.protocol.headers import UNDERSCORED
from floway_core.runtime.observers import OBSERVER_FLUSH_SECONDS
from floway_core.server.client_socket import is_readable, peer_name, refuse_overloaded, set_timeouts
from floway_core.server.command import RESTART_DELAY_SECONDS
from floway_core.server.exchange import ClientExchange
from floway_core.server.request_parser import ConnectionParser, error_response
from floway_core.server.response_writer import ResponseWriter
from floway_core.server.stream_loop import StreamLoop
from floway_core.server.thread_pool import ThreadPool

NEXT_REQUEST_WAIT_SECONDS = 0.05
"""Time that a thread waits for the next request on a connection before the main loop does. Handing a connection over
and back takes longer than serving a small request."""

LINGERING_CLOSE_SECONDS = 2.0
"""Time for a client to close its connection after the last response. After the signal to stop, also the time for which
an idle connection stays open: its next request may be on the way."""

FINAL_EVENTS_SECONDS = 2.0
"""Time before the end of the grace period at which the requests that still run are made to fail. After half of it the
worker exits; at the end of the grace period it would be killed."""

FIRST_THREADS = 4
"""Threads that exist from the start, for requests, and as many for streams that need one when no other can be had."""

PARENT_CHECK_SECONDS = 0.5
"""Time between two checks whether the parent process still runs: they cost almost nothing, and work in every container.
The kernel could send a signal (``PR_SET_PDEATHSIG``), but not for a parent that died before it was asked to."""

STOP_CHECK_SECONDS = 0.1
"""Time between two checks of the deadlines while the worker stops, and pause after a failed ``accept``."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""Value of ``SO_LINGER``: closing the socket resets the connection and drops unsent bytes."""


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """Uses threads for requests only. Connections wait in the main loop: for the first byte, for the next request, and
    for the client to close.

    SIGTERM stops the worker when all requests have ended, or at the end of the grace period. SIGINT and SIGQUIT stop it
    at once. Requests that still run then fail with ``ShuttingDown``.
    """

    alive: bool
    """Whether the worker has not been told to stop."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shutdown_at = self._exit_at = math.inf
        """Monotonic times at which running requests are made to fail, and at which the process exits."""
        self._closing: dict[TConn, None] = {}
        """Connections whose client has not closed yet, the oldest first."""

    # ------------------------------------------------------------------------------------------------ in the threads
    def handle(self, conn: TConn, exchange: ClientExchange | None = None) -> bool | None:
        """Serve the requests that arrive in quick succession on a connection.

        :param exchange: a stream to continue first.
        :returns: whether the connection stays open for further requests; None if the stream loop has a stream of it.
        """
        keep_alive = self._serve(conn, exchange)
        while (
            keep_alive
            and self.alive
            and (
                conn.parser.has_buffered
                or (self.nr_conns <= self.cfg.threads and is_readable(conn.sock, NEXT_REQUEST_WAIT_SECONDS))
            )
        ):
            keep_alive = self._serve(conn)
        return keep_alive

    def _serve(self, conn: TConn, exchange: ClientExchange | None = None) -> bool | None:
        request = exchange.request if exchange else None
        try:
            conn.sock.setblocking(True)
            if conn.parser is None:
                conn.parser = ConnectionParser(
                    self.cfg, conn.sock, conn.client, self._client_timeout, self._underscored
                )
            conn.init()
            if exchange is None:
                request = next(conn.parser)
                exchange = self._call_application(request, conn)
            keep_alive = self._send_response(exchange)
            # Do not wait for a body that the application has not read: close the connection instead.
            return keep_alive and conn.parser.finish_body(deadline=time.monotonic() + NEXT_REQUEST_WAIT_SECONDS)
        except (NoMoreData, StopIteration):
            return False
        except (BlockingIOError, TimeoutError):  # the timeouts of the socket
            self.log.warning(
                "Dropped a client that stalled for %g seconds: %s", self._client_timeout, peer_name(conn.client)
            )
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            conn.sock.close()
            return False
        except OSError:
            return False  # the client has disconnected
        except Exception as error:  # noqa: BLE001 - logged there; the worker has to go on
            self.handle_error(request, conn.sock, conn.client, error, conn.parser.path if conn.parser else "")
            return False

    def _call_application(self, request: Any, conn: TConn) -> ClientExchange:
        """Let the application handle a request. None of the response has been sent yet."""
        self.cfg.pre_request(self, request)
        response, environ = wsgi.create(
            request, conn.sock, conn.client, conn.server, self.cfg, response_class=ResponseWriter
        )
        exchange = ClientExchange(conn, request, response, environ)
        exchange.environ["wsgi.multithread"] = True
        exchange.environ[UNDERSCORED] = request.underscored
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive or len(self.keepalived_conns) >= self.max_keepalived:
            exchange.response.force_close()
        exchange.body = self.wsgi(exchange.environ, exchange.response.start_response)
        return exchange

    def _send_response(self, exchange: ClientExchange) -> bool | None:
        """Send the rest of a response. A stream moves to the stream loop as soon as it has to wait.

        :returns: like ``handle``.
        """
        in_stream_loop = False
        try:
            stream = exchange.send(self._resume_in_thread)
            if stream is not None:
                in_stream_loop = True  # from now on another thread may end the response
                self._streams.add(stream)
                return None
            exchange.response.close()
            return not exchange.response.should_close()
        except OSError:
            raise
        except Exception:  # the head has been sent: all that can be done is to close the connection
            if not exchange.response.headers_sent:
                raise
            self.log.exception("Sending a response failed")
            return False
        finally:
            if not in_stream_loop:
                self._end_exchange(exchange)

    def _end_exchange(self, exchange: ClientExchange) -> None:
        request, response, environ = exchange.request, exchange.response, exchange.environ
        self.log.access(response, request, environ, datetime.now() - exchange.started)
        try:
            if hasattr(exchange.body, "close"):
                exchange.body.close()
        finally:
            self.cfg.post_request(self, request, environ, response)

    def _resume_in_thread(self, exchange: ClientExchange) -> None:
        """Let a thread continue a stream. The stream loop calls this."""
        try:
            future = self.tpool.submit(self.handle, exchange.conn, exchange)
        except RuntimeError:  # no thread can be had
            future = self._reserved_threads.submit(self._finish_stream, exchange)
        future.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, exchange.conn, future))

    def _finish_stream(self, exchange: ClientExchange) -> bool | None:
        """Like ``handle``, without further requests: they could keep a reserved thread for long."""
        keep_alive = self._serve(exchange.conn, exchange)
        return keep_alive and not exchange.conn.parser.has_buffered

    def handle_error(self, request: Any, sock: socket.socket, client: Any, error: Exception, path: str = "") -> None:
        """Respond to a request that did not reach the application."""
        request_id = str(uuid7())
        if isinstance(error, ParseException):
            self.log.warning("Refused request %s, which is not valid HTTP: %s", request_id, type(error).__name__)
        else:
            self.log.error("Request %s failed outside of the application", request_id, exc_info=error)
        with contextlib.suppress(OSError):
            sock.sendall(error_response(error, request_id, self._dialects, path))

    # ---------------------------------------------------------------------------------------------- in the main loop
    def load_wsgi(self) -> None:
        # As plain attributes: gunicorn reads two dozen settings per request, each by a look-up in a table of objects.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().load_wsgi()
        gateway = self.wsgi.extensions["floway"]
        self._shutdown = gateway.shutdown
        self._dialects = gateway.dialects
        self._store_usage = partial(gateway.usage.flush, gateway.services.database)
        self._flush_observers = gateway.observers.flush
        settings = gateway.settings
        self._client_timeout = settings.client_timeout
        self._underscored = gateway.providers.underscore_headers
        tick = min(1.0, settings.keepalive_interval / 4, settings.idle_timeout / 4)
        self._streams = StreamLoop(gateway.shutdown.fileno(), self._client_timeout, tick)
        self._reserved_threads = ThreadPool(FIRST_THREADS)
        try:
            self._streams.start()
            self._reserved_threads.start(FIRST_THREADS)
            self.tpool.start(FIRST_THREADS)
        except RuntimeError as error:
            self.log.error("A worker could not start; retrying in %g seconds: %s", RESTART_DELAY_SECONDS, error)
            time.sleep(RESTART_DELAY_SECONDS)
            os._exit(1)  # threads that have started would keep the process

    def get_thread_pool(self) -> ThreadPool:
        return ThreadPool(self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        try:
            super().accept(listener)
        except OSError as error:  # no descriptor or memory left; other connections can still be served
            self.log.error("A connection could not be accepted: %s", error)
            time.sleep(STOP_CHECK_SECONDS)

    def enqueue_req(self, conn: TConn) -> None:
        if conn.data_ready or conn.initialized:
            try:
                super().enqueue_req(conn)
            except RuntimeError:  # no thread can be had
                self._refuse(conn)
        else:
            if self.nr_conns >= self.worker_connections:
                self._drop_idle_connection()
            set_timeouts(conn.sock, self._client_timeout)
            self._wait_for(conn, self.pending_conns, self.on_pending_socket_readable)

    def _refuse(self, conn: TConn) -> None:
        """Answer a request without a thread."""
        request_id = str(uuid7())
        if refuse_overloaded(conn.sock, request_id, self._dialects):
            self.log.warning("Refused request %s, because no thread can be started for it", request_id)
        self._close_gracefully(conn)

    def _drop_idle_connection(self) -> None:
        """Close the least useful connection, so that new ones need not wait until an old one ends."""
        if self._closing:
            self._stop_closing(next(iter(self._closing)))
        elif idle := self.keepalived_conns or self.pending_conns:
            conn = idle.popleft()
            self.poller.unregister(conn.sock)
            self._drop(conn)

    def finish_request(self, conn: TConn, future: "Future[bool | None]") -> None:
        error = future.exception()
        if error:
            self.log.error("Serving a connection failed", exc_info=error)
        keep_alive = False if error else future.result()
        if keep_alive:
            self._wait_for(conn, self.keepalived_conns, self.on_client_socket_readable)
        elif keep_alive is not None:
            self._close_gracefully(conn)

    def _wait_for(self, conn: TConn, waiting: "deque[TConn]", callback: Callable[[TConn, socket.socket], None]) -> None:
        """Wait in the main loop until a connection becomes readable, or its time is over.

        :param waiting: the queue for the connection.
        """
        conn.timeout = time.monotonic() + min(
            self._client_timeout, self.cfg.keepalive if self.alive else LINGERING_CLOSE_SECONDS
        )
        conn.sock.setblocking(False)
        waiting.append(conn)
        self._watch(conn, callback)

    def _watch(self, conn: TConn, callback: Callable[[TConn, socket.socket], None]) -> None:
        def on_readable(sock: socket.socket) -> None:
            if sock.fileno() >= 0:  # otherwise it was dropped meanwhile, to make room
                callback(conn, sock)

        self.poller.register(conn.sock, selectors.EVENT_READ, on_readable)

    def _close_gracefully(self, conn: TConn) -> None:
        """Close a connection after its client has. Closing first could discard bytes that the client has not read."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self._drop(conn)
            return
        conn.timeout = time.monotonic() + LINGERING_CLOSE_SECONDS
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
        self._stop_closing(conn)

    def _stop_closing(self, conn: TConn) -> None:
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
            self._stop_closing(conn)

    # ------------------------------------------------------------------------------------------------------ stopping
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        grace = self.cfg.graceful_timeout
        final_events = min(FINAL_EVENTS_SECONDS, grace / 4)
        self._stop(grace - final_events, grace - final_events / 2)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self._stop(0, FINAL_EVENTS_SECONDS / 2)

    def is_parent_alive(self) -> bool:
        """Return whether the parent process runs. Without it nobody could stop or replace this one, and a new server
        needs its address. So stop as after SIGTERM."""
        if os.getppid() == self.ppid:
            return True
        self.log.error("The parent process is gone; this worker stops")
        self.handle_exit(0, None)
        return False

    def _stop(self, shutdown_after: float, exit_after: float) -> None:
        """Stop when all requests have ended, at the latest after so many seconds.

        :param shutdown_after: seconds until running requests are made to fail.
        :param exit_after: seconds until the process exits.
        """
        now = time.monotonic()
        self._shutdown_at = min(self._shutdown_at, now + shutdown_after)
        self._exit_at = min(self._exit_at, now + exit_after)
        for conn in (*self.keepalived_conns, *self.pending_conns):
            conn.timeout = min(conn.timeout, now + LINGERING_CLOSE_SECONDS)
        super().handle_exit(0, None)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self.alive:
            super().wait_for_and_dispatch_events(min(timeout, PARENT_CHECK_SECONDS))
            return
        self.notify()  # otherwise the arbiter would take the worker for hung
        now = time.monotonic()
        if now >= self._shutdown_at:
            self._shutdown.announce()
            in_use = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
            if not in_use or now >= self._exit_at:
                self._exit(in_use - len(self._closing))
        super().wait_for_and_dispatch_events(min(timeout, STOP_CHECK_SECONDS))

    def _exit(self, running: int) -> None:
        """Exit without waiting for the threads, for which the interpreter would wait.

        :param running: number of requests that still run.
        """
        if running:
            self.log.warning("%d requests did not end in time and were cut off", running)
        self._store_usage()
        # At the end of the grace period, half of the final events' time after the exit is due, the process is killed.
        margin = min(FINAL_EVENTS_SECONDS, self.cfg.graceful_timeout / 4) * 0.4
        until_killed = self._exit_at + margin - time.monotonic()
        self._flush_observers(max(0.0, min(OBSERVER_FLUSH_SECONDS, until_killed)))
        os._exit(0)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting connections. A worker that stops also closes its listening sockets: otherwise new
        connections would wait until the last stream has ended."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()
