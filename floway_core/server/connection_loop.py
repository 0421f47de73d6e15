"""The main loop of a worker: connections wait here for their next request, for a slow reader, and for their end."""

import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from floway_core.receiving import receive
from floway_core.server.connection import Connection, Rank
from floway_core.server.poller import CallQueue, Poller
from floway_core.server.sockets import are_files_scarce, reset, set_socket_timeouts, take_lowest_descriptor
from floway_core.server.waiting import WaitingConnections
from floway_core.settings import Settings

MAX_RECEIVED_BYTES = 32 * 2**20
"""Bytes that all connections of a worker may have received of requests that are not there yet."""

HEAD_FIELDS = 2
"""How often the largest header field fits into a head."""

LINGERING_CLOSE_SECONDS = 2.0
"""Time for a client to close its connection after the last response. After the signal to stop, also the time for which
an idle connection stays open: its next request may be on the way."""

DEADLINE_CHECK_SECONDS = 0.2
"""Time between two looks at the deadlines of all waiting connections."""

ACCEPT_PAUSE_SECONDS = 0.1
"""Time until connections are accepted again when the system lacks descriptors or memory."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of ``accept`` for which a connection less may help."""


class ConnectionLoop(ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """Receives requests and lets threads serve them when they are there; never waits for a single client."""

    alive: bool
    """Whether the worker has not been told to stop."""
    settings: Settings
    poller: Poller

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.method_queue = CallQueue()
        self.waiting = WaitingConnections()
        self._deadlines_checked_at = 0.0
        self._accept_again_at = 0.0

    # ------------------------------------------------------------------------------------------------------ accepting
    def accept(self, listener: socket.socket) -> None:
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was faster, or the client has gone
            return
        except OSError as error:
            self._on_accept_error(error)
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._drop_least_useful()
        elif are_files_scarce(sock) and self._drop_least_useful(Rank.UNAUTHENTICATED):
            sock = take_lowest_descriptor(sock)
        max_head_bytes = self.cfg.limit_request_line + HEAD_FIELDS * self.settings.max_header_bytes
        conn = Connection(self.cfg, sock, client, listener.getsockname(), max_head_bytes)
        set_socket_timeouts(sock, self.settings.client_timeout)
        self._wait_for_request(conn)
        if surplus := self.waiting.surplus(conn.network, self.settings.max_idle_connections):
            self._drop(surplus)

    def _on_accept_error(self, error: OSError) -> None:
        """Make room if descriptors or memory are exhausted. If nothing can be dropped, do not accept for a moment."""
        if error.errno in EXHAUSTED and self._drop_least_useful():
            return  # the listener is still readable
        self.log.error("A connection could not be accepted: %s", error)
        self._accept_again_at = time.monotonic() + ACCEPT_PAUSE_SECONDS
        self.set_accept_enabled(False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting connections. A worker that stops also closes its listening sockets: otherwise new
        connections would wait until the last stream has ended."""
        if enabled and time.monotonic() < self._accept_again_at:
            return
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                listener.close()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self._accept_again_at > time.monotonic():
            timeout = min(timeout, ACCEPT_PAUSE_SECONDS)
        self.poller.dispatch(timeout)

    def run(self) -> None:
        self.poller.close()  # gunicorn's, which nothing uses yet
        self.poller = Poller(self.method_queue)
        super().run()

    # ------------------------------------------------------------------------------------------------------ receiving
    def _wait_for_request(self, conn: Connection) -> None:
        self._wait(conn, self._request_timeout(conn), select.EPOLLIN, self._on_readable)

    def pass_on(self, conn: Connection) -> None:
        """Let the main loop look after a connection. The thread that has served it calls this.

        The main loop is not woken to wait for the next request, because it is told when that has come; unless it may
        have to drop a connection to make room for others.
        """
        conn.served_at = time.monotonic()
        is_idle = conn.keeps_alive and not conn.unsent and not conn.incoming and conn.sock.fileno() >= 0
        if not is_idle or self.nr_conns >= self.worker_connections:
            self.method_queue.defer(self._continue, conn)
            return
        self.method_queue.add(self._expect_request, conn)  # first: the request may be there already
        with contextlib.suppress(OSError, ValueError):  # the main loop has just dropped it
            self.poller.arm(conn, select.EPOLLIN)

    def _expect_request(self, conn: Connection) -> None:
        conn.deadline = time.monotonic() + self._request_timeout(conn)
        self.waiting.add(conn)
        self.poller.expect(conn, self._on_readable)

    def _request_timeout(self, conn: Connection) -> float:
        """Return the seconds that a client has to begin its request, or to go on with it."""
        timeout = self.settings.client_timeout
        if not self.alive:
            return min(timeout, LINGERING_CLOSE_SECONDS)
        return timeout if conn.incoming else min(timeout, self.cfg.keepalive)

    def _on_readable(self, conn: Connection) -> None:
        """Receive a part of a request. A thread serves it as soon as it need not wait for the client."""
        was_empty = not conn.incoming
        try:
            is_open = conn.receive()
        except OSError:
            is_open = False
        if conn.incoming.is_ready or (conn.incoming.has_head and not is_open):
            self._stop_waiting(conn)
            conn.note_request()
            self.enqueue_req(conn)
        elif not is_open:
            self._drop(conn)
        else:
            self._go_on_waiting(conn, was_empty)

    def _go_on_waiting(self, conn: Connection, was_empty: bool) -> None:
        """Wait for the rest of a request, unless it is one too many.

        :param was_empty: whether its first bytes have just arrived.
        """
        self.waiting.note_received(conn)
        while self.waiting.received_bytes > MAX_RECEIVED_BYTES:
            self._drop(self.waiting.oldest_received())
        if was_empty or conn.incoming.has_head:  # the whole head has one deadline, a body has one for each pause
            conn.deadline = time.monotonic() + self._request_timeout(conn)
        if conn in self.waiting:
            self.poller.watch(conn, select.EPOLLIN, self._on_readable)

    def _continue(self, conn: Connection) -> None:
        """Do what comes next on a connection after a response."""
        if conn.sock.fileno() < 0:
            self._close(conn)
        elif conn.unsent:
            conn.unsent.has_progressed(conn.sock)
            self._wait(conn, self.settings.client_timeout, select.EPOLLOUT, self._on_writable)
        elif not conn.keeps_alive:
            self._close_gracefully(conn)
        elif conn.incoming.is_ready:
            self.enqueue_req(conn)
        else:
            self._wait_for_request(conn)

    # -------------------------------------------------------------------------------------------------------- sending
    def _on_writable(self, conn: Connection) -> None:
        """Send a slice of what the client has not accepted yet."""
        try:
            count = conn.unsent.flush(conn.sock)
        except OSError as error:
            if isinstance(error, TimeoutError):  # the system gives up clients that do not read, too
                self.log_stalled(conn)
            self._drop(conn)
            return
        if not conn.unsent:
            self._stop_waiting(conn)
            self._continue(conn)
            return
        if count:
            conn.deadline = time.monotonic() + self.settings.client_timeout
        self.poller.watch(conn, select.EPOLLOUT, self._on_writable)

    # -------------------------------------------------------------------------------------------------------- waiting
    def _wait(self, conn: Connection, seconds: float, events: int, callback: Callable[[Connection], None]) -> None:
        """Wait until the socket of a connection is ready, or its time is over.

        :param events: of ``epoll``.
        :param callback: called once; if it does not stop waiting, it lets the poller watch the connection again.
        """
        conn.deadline = time.monotonic() + seconds
        self.waiting.add(conn)
        self.poller.watch(conn, events, callback)

    def _stop_waiting(self, conn: Connection) -> None:
        self.waiting.remove(conn)
        self.poller.forget(conn)

    def murder_pending(self) -> None:
        """End the waiting of connections whose time is over. gunicorn calls this after all events of a turn."""
        now = time.monotonic()
        if now - self._deadlines_checked_at >= DEADLINE_CHECK_SECONDS:
            self._deadlines_checked_at = now
            for conn in self.waiting.expired(now):
                self._on_expired(conn)

    def _on_expired(self, conn: Connection) -> None:
        if conn.is_idle and conn.incoming.has_head:
            conn.incoming.is_late = True  # the application says so to the client
            self._stop_waiting(conn)
            self.enqueue_req(conn)
            return
        if conn.unsent and conn.unsent.has_progressed(conn.sock):
            conn.deadline = time.monotonic() + self.settings.client_timeout
            return
        if conn.unsent or (conn.is_idle and conn.incoming):
            self.log_stalled(conn)
        self._drop(conn)

    def log_stalled(self, conn: Connection) -> None:
        """Log that a client is given up."""
        self.log.warning("Dropped a client that stalled for %g seconds: %s", self.settings.client_timeout, conn.name())

    # -------------------------------------------------------------------------------------------------------- closing
    def _drop_least_useful(self, highest: Rank = Rank.AUTHENTICATED) -> bool:
        """Close the connection that is missed least, so that new ones need not wait until an old one ends.

        :returns: whether there was one up to the rank ``highest``.
        """
        conn = self.waiting.least_useful(highest)
        if conn:
            self._drop(conn)
        return conn is not None

    def _drop(self, conn: Connection) -> None:
        """Close a waiting connection."""
        self._stop_waiting(conn)
        self._close(conn)

    def _close(self, conn: Connection) -> None:
        self.nr_conns -= 1
        if conn.unsent:
            reset(conn.sock)
            conn.unsent.clear()
        conn.close()

    def _close_gracefully(self, conn: Connection) -> None:
        """Close a connection after its client has. Closing first could discard bytes that the client has not read."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
            return
        conn.rank = Rank.CLOSING
        self._wait(conn, LINGERING_CLOSE_SECONDS, select.EPOLLIN, self._on_closing)

    def _on_closing(self, conn: Connection) -> None:
        try:
            has_ended = not receive(conn.sock, socket.MSG_DONTWAIT)
        except BlockingIOError:
            has_ended = False
        except OSError:
            has_ended = True
        if has_ended:
            self._drop(conn)
        else:
            self.poller.watch(conn, select.EPOLLIN, self._on_closing)
