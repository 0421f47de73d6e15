"""The worker process: gunicorn's threaded worker, with streams that need no thread and timeouts for stalled clients."""

import contextlib
import math
import os
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from gunicorn.http.errors import NoMoreData, ParseException
from uuid6 import uuid7

from floway_core.errors import Overloaded
from floway_core.protocol.headers import UNDERSCORED
from floway_core.runtime.observers import OBSERVER_FLUSH_SECONDS
from floway_core.server.command import RESTART_DELAY_SECONDS
from floway_core.server.connection import Connection, Rank
from floway_core.server.connection_loop import LINGERING_CLOSE_SECONDS, ConnectionLoop
from floway_core.server.environ import connection_environ, request_environ, worker_environ
from floway_core.server.exchange import ClientExchange
from floway_core.server.http_errors import RequestOutline, error_response, read_outline
from floway_core.server.request_parser import ConnectionParser
from floway_core.server.response_writer import ResponseWriter
from floway_core.server.sockets import reset
from floway_core.server.stream_loop import StreamLoop
from floway_core.server.thread_pool import ThreadPool
from floway_core.server.websocket_connection import WebSocketConnection
from floway_core.server.websocket_loop import WebSocketLoop
from floway_core.web.auth import AUTHENTICATED
from floway_core.web.websocket import OFFERED, WebSocketSession

REQUESTS_IN_A_ROW = 100
"""Requests of one connection that a thread serves before it serves others. A client may send many at once."""

FINAL_EVENTS_SECONDS = 2.0
"""Time before the end of the grace period at which the requests that still run are made to fail. After half of it the
worker exits; at the end of the grace period it would be killed."""

FIRST_THREADS = 4
"""Threads that exist from the start: so many for requests, and so many for streams if the system allows no others."""

PARENT_CHECK_SECONDS = 0.5
"""Time between two checks whether the parent process still runs: they cost almost nothing, and work in every container.
The kernel could send a signal (``PR_SET_PDEATHSIG``), but not for a parent that died before it was configured."""

NOTIFY_SECONDS = 1.0
"""Time between two signs of life for the arbiter, which kills a worker that has given none for a minute."""

STOP_CHECK_SECONDS = 0.1
"""Time between two checks of the deadlines while the worker stops."""


class Worker(ConnectionLoop):
    """Uses threads only for requests. Waiting for a client or for an upstream's stream is done in two loops.

    SIGTERM stops the worker when all requests have ended, or at the end of the grace period. SIGINT and SIGQUIT stop it
    at once. Requests that still run then fail with ``ShuttingDown``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shutdown_at = self._exit_at = math.inf
        """Monotonic times at which running requests are made to fail, and at which the process exits."""
        self._notify_at = self._check_parent_at = 0.0
        """Monotonic times from which on the main loop does that again: it may turn thousands of times a second."""

    # ------------------------------------------------------------------------------------------------ in the threads
    def handle(self, conn: Connection, exchange: ClientExchange | None = None) -> bool | None:
        """Serve the requests that arrive in quick succession on a connection.

        :param exchange: a stream to continue first.
        :returns: whether the connection stays open for further requests; None if the stream loop has a stream of it.
        """
        keep_alive = self._serve(conn, exchange)
        for _ in range(REQUESTS_IN_A_ROW - 1):
            if not (keep_alive and self.alive and self._receive_next(conn)):
                break
            keep_alive = self._serve(conn)
        return keep_alive

    def _receive_next(self, conn: Connection) -> bool:
        """Return whether the next request has arrived. Wait a moment for that of a quick client."""
        if conn.unsent:
            return False
        if conn.incoming.is_ready:
            return True
        if not conn.is_quick or self.nr_conns > self.cfg.threads or not conn.wait():
            return False
        try:
            conn.receive()
        except OSError:
            return False  # the main loop will notice
        return conn.incoming.is_ready

    def _serve(self, conn: Connection, exchange: ClientExchange | None = None) -> bool | None:
        try:
            if exchange is None:
                if conn.parser is None:
                    conn.parser = ConnectionParser(self.cfg, conn.sock, conn.client, conn.incoming, self._underscored)
                    conn.environ = connection_environ(self._environ, conn.sock, conn.client, conn.server)
                exchange = self._call_application(next(conn.parser), conn)
            keep_alive = self._send_response(exchange)
            return keep_alive and conn.parser.finish_request()
        except (NoMoreData, StopIteration):
            return False
        except (BlockingIOError, TimeoutError):  # the timeouts of the socket
            self.log_stalled(conn)
            reset(conn.sock)
            return False
        except OSError:  # the client has disconnected
            conn.unsent.clear()
            return False
        except Exception as error:  # noqa: BLE001 - logged there; the worker has to go on
            self._send_error(conn, conn.parser.outline if conn.parser else RequestOutline(), error)
            return False

    def _call_application(self, request: Any, conn: Connection) -> ClientExchange:
        """Let the application handle a request. Nothing of the response is sent yet."""
        self.cfg.pre_request(self, request)
        response = ResponseWriter(request, conn.sock, self.cfg, conn.unsent)
        exchange = ClientExchange(conn, request, response, request_environ(conn.environ, request))
        exchange.environ[UNDERSCORED] = request.underscored
        exchange.environ[OFFERED] = self.alive and len(self._websockets) < self._max_websockets
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        exchange.body = self.wsgi(exchange.environ, exchange.response.start_response)
        # Do not wait for a body that the application has not read: the connection is closed instead.
        if not self.alive or not self.cfg.keepalive or not request.has_whole_body:
            exchange.response.force_close()
        if exchange.environ.get(AUTHENTICATED):
            conn.rank = Rank.AUTHENTICATED
        return exchange

    def _send_response(self, exchange: ClientExchange) -> bool | None:
        """Send the rest of a response. A stream moves to the stream loop as soon as it has to wait.

        :returns: like ``handle``.
        """
        in_stream_loop = False
        try:
            if isinstance(exchange.body, WebSocketSession):
                exchange.response.send_head()
                self._open_websocket(exchange.conn, exchange.body)
                return None
            stream = exchange.send(self._resume_in_thread)
            if stream is not None:
                in_stream_loop = True  # from now on another thread may end the response
                self._streams.add(stream)
                return None
            exchange.response.close()
            return not exchange.response.should_close()
        except OSError:
            raise
        except Exception:  # the head has been sent, so the connection can only be closed
            if not exchange.response.headers_sent:
                raise
            self.log.exception("Sending a response failed")
            return False
        finally:
            if not in_stream_loop:
                self._end_exchange(exchange)

    def _end_exchange(self, exchange: ClientExchange) -> None:
        exchange.conn.unsent.reserve(self._body_memory)  # what the request has reserved is released now
        try:
            if hasattr(exchange.body, "close"):
                exchange.body.close()
        finally:
            self.cfg.post_request(self, exchange.request, exchange.environ, exchange.response)

    def _open_websocket(self, conn: Connection, session: WebSocketSession) -> None:
        """Let the loop of WebSockets serve a connection from now on."""
        received = conn.parser.unreader.take_buffered()
        conn.parser, conn.keeps_alive = None, False  # what follows is not HTTP
        self._websockets.add(WebSocketConnection(conn, session, self._body_memory), received)

    def _end_websocket(self, connection: WebSocketConnection) -> None:
        """Let the main loop close a connection. The loop of WebSockets calls this."""
        if connection.has_stalled:
            self.log_stalled(connection.conn)
            reset(connection.conn.sock)
        elif connection.is_lost:
            connection.conn.unsent.clear()
        self.method_queue.defer(self._continue, connection.conn)

    def _submit(self, work: Callable[[], None]) -> None:
        """Let a thread do a part of a WebSocket's work."""
        try:
            self.tpool.submit(work)
        except RuntimeError:  # the system allows no thread
            self._reserved_threads.submit(work)

    def _resume_in_thread(self, exchange: ClientExchange) -> None:
        """Let a thread continue a stream. The stream loop calls this."""
        try:
            self.tpool.submit(self._use_thread, self.handle, exchange.conn, exchange)
        except RuntimeError:  # the system allows no thread; further requests could keep a reserved one for long
            self._reserved_threads.submit(self._use_thread, self._serve, exchange.conn, exchange)

    def _use_thread(self, serve: Callable[..., bool | None], conn: Connection, *exchange: ClientExchange) -> None:
        """Serve a connection. Then let the main loop look after it, unless another loop has it.

        :param serve: ``handle`` or ``_serve``.
        """
        keeps_alive: bool | None = False
        try:
            keeps_alive = serve(conn, *exchange)
        except BaseException:  # the main loop has to close the connection
            self.log.exception("Serving a connection failed")
        if keeps_alive is not None:
            conn.keeps_alive = keeps_alive
            self.pass_on(conn)

    def _send_error(self, conn: Connection, outline: RequestOutline, error: Exception) -> None:
        """Respond to a request that did not reach the application."""
        request_id = str(uuid7())
        if isinstance(error, ParseException):
            self.log.warning("Refused request %s, which is not valid HTTP: %s", request_id, type(error).__name__)
        elif isinstance(error, Overloaded):
            self.log.warning("Refused request %s, because no thread can be started for it", request_id)
        else:
            self.log.error("Request %s failed outside of the application", request_id, exc_info=error)
        with contextlib.suppress(OSError):
            conn.unsent.write(conn.sock, error_response(error, request_id, self._dialects, outline))

    # ----------------------------------------------------------------------------------------------- in the main loop
    def enqueue_req(self, conn: Connection) -> None:
        try:
            self.tpool.submit(self._use_thread, self.handle, conn)
        except RuntimeError:  # the system allows no thread
            self._send_error(conn, read_outline(conn.incoming.take()), Overloaded())
            conn.keeps_alive = False
            self._continue(conn)

    # ------------------------------------------------------------------------------------------------------- starting
    def get_thread_pool(self) -> ThreadPool:
        return ThreadPool(self.cfg.threads)

    def load_wsgi(self) -> None:
        # As plain attributes: gunicorn looks up two dozen settings per request in a table of objects.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().load_wsgi()
        self._environ = worker_environ(self.cfg)
        gateway = self.wsgi.extensions["floway"]
        self._shutdown = gateway.shutdown
        self._dialects = gateway.dialects
        self._background = self.wsgi.extensions["floway_background"]
        self._store_usage = partial(gateway.usage.flush_finally, gateway.services.database)
        self._flush_observers = gateway.observers.flush
        self.settings = settings = gateway.settings
        self._underscored = gateway.providers.underscore_headers
        tick = min(1.0, settings.keepalive_interval / 4, settings.idle_timeout / 4)
        self._streams = StreamLoop(gateway.shutdown.fileno(), settings.client_timeout, tick)
        self._body_memory, self._max_websockets = gateway.body_memory, settings.max_websockets
        self._websockets = WebSocketLoop(
            self.wsgi,
            start_thread=self._submit,
            is_stopping=lambda: not self.alive,
            on_end=self._end_websocket,
            shutdown_fileno=gateway.shutdown.fileno(),
            client_timeout=settings.client_timeout,
            ping_interval=settings.keepalive_interval,
            tick=tick,
        )
        self._background.relay = self._streams.add_without_client
        self._reserved_threads = ThreadPool(FIRST_THREADS)
        try:
            self._streams.start()
            self._websockets.start()
            self._reserved_threads.start(FIRST_THREADS)
            self.tpool.start(FIRST_THREADS)
        except RuntimeError as error:
            self.log.error("A worker could not start; retrying in %g seconds: %s", RESTART_DELAY_SECONDS, error)
            time.sleep(RESTART_DELAY_SECONDS)
            raise SystemExit(1) from None

    # ------------------------------------------------------------------------------------------------------ stopping
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        grace = self.cfg.graceful_timeout
        final_events = min(FINAL_EVENTS_SECONDS, grace / 4)
        self._stop(grace - final_events, grace - final_events / 2)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self._stop(0, FINAL_EVENTS_SECONDS / 2)

    def notify(self) -> None:
        """Tell the arbiter now and then that the main loop is not stuck."""
        now = time.monotonic()
        if now >= self._notify_at:
            self._notify_at = now + NOTIFY_SECONDS
            super().notify()

    def is_parent_alive(self) -> bool:
        """Return false if the parent process has been found gone. Then stop as after SIGTERM: nobody could stop or
        replace this worker, and a new server needs its address."""
        now = time.monotonic()
        if now < self._check_parent_at:
            return True
        self._check_parent_at = now + PARENT_CHECK_SECONDS
        if os.getppid() == self.ppid:
            return True
        if self._exit_at == math.inf:
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
        for conn in self.waiting:
            if conn.is_idle:
                conn.deadline = min(conn.deadline, now + LINGERING_CLOSE_SECONDS)
        super().handle_exit(0, None)

    def run(self) -> None:
        super().run()
        # What runs in the background has no connection that the loop would wait for.
        while self._background:
            self.is_parent_alive()
            self.notify()
            now = time.monotonic()
            if now >= self._shutdown_at:
                self._shutdown.announce()
            if now >= self._exit_at:
                self._exit(len(self._background))
            time.sleep(STOP_CHECK_SECONDS)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self.alive:
            super().wait_for_and_dispatch_events(min(timeout, PARENT_CHECK_SECONDS))
            return
        self.notify()  # otherwise the arbiter would take the worker for hung
        now = time.monotonic()
        if now >= self._shutdown_at:
            self._shutdown.announce()
            in_use = self.nr_conns - sum(conn.is_idle for conn in self.waiting)
            if not (in_use or self._background) or now >= self._exit_at:
                self._exit(in_use - self.waiting.count(Rank.CLOSING) + len(self._background))
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
