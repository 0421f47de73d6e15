"""A thread that receives and sends for all WebSockets of a worker. An idle connection needs no thread.

A message that has arrived goes to a thread, which lets the application answer it as if it had been posted. As with
other streams, the answer comes back here as soon as it only waits for its upstream. All bytes are sent from here.
"""

import contextlib
import logging
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from wsgiref.types import WSGIApplication

from websockets.frames import CloseCode

from floway_core.engine.client_stream import StreamState
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.server.websocket_connection import MAX_WAITING, WebSocketConnection
from floway_core.server.websocket_turn import INTERRUPTED, WebSocketTurn
from floway_core.web.websocket import read_interrupt

log = logging.getLogger("floway.streaming")

IDLE_SECONDS = 3600.0
"""Time after which a connection without a response is closed."""

MAX_UNSENT_BYTES = 2**20
"""With so many unsent bytes, nothing is received from the client."""


class WebSocketLoop:
    """Serves WebSockets in a thread. Create and start one per worker."""

    def __init__(
        self,
        application: WSGIApplication,
        start_thread: Callable[[Callable[[], None]], object],
        is_stopping: Callable[[], bool],
        on_end: Callable[[WebSocketConnection], None],
        *,
        shutdown_fileno: int,
        client_timeout: float,
        ping_interval: float,
        tick: float,
    ) -> None:
        """:param application: answers the messages.
        :param start_thread: runs a function in a thread.
        :param is_stopping: whether idle connections are to be closed.
        :param on_end: called when a connection only needs to be closed.
        :param shutdown_fileno: a descriptor that becomes readable when no answer may wait any longer.
        :param client_timeout: seconds for which a client may not read, or may pause within a message.
        :param ping_interval: seconds of silence after which a ping is sent.
        :param tick: seconds between two checks of all connections.
        """
        self._application, self._start_thread = application, start_thread
        self._is_stopping, self._on_end = is_stopping, on_end
        self._shutdown_fileno, self._is_shut_down = shutdown_fileno, False
        self._client_timeout, self._ping_interval, self._tick = client_timeout, ping_interval, tick
        self._connections: set[WebSocketConnection] = set()
        self._watched: dict[int, WebSocketConnection | WebSocketTurn] = {}
        """By the descriptor of the client or of the upstream."""
        self._waiting: dict[WebSocketConnection, threading.Event] = {}
        """The threads that wait until everything has been sent."""
        self._calls: queue.SimpleQueue[tuple[WebSocketConnection, Callable[[], None]]] = queue.SimpleQueue()
        self._wake_fileno = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._wake_fileno, select.EPOLLIN)
        self._epoll.register(shutdown_fileno, select.EPOLLIN)

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._connections)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="websockets", daemon=True).start()

    # -------------------------------------------------------------------------------------------- from other threads
    def add(self, connection: WebSocketConnection, received: bytes) -> None:
        """Serve a connection from now on.

        :param received: bytes that were received after the upgrade.
        """
        self._connections.add(connection)
        self.call(connection, partial(self._handle, connection, connection.feed(received) if received else ()))

    def call(self, connection: WebSocketConnection, action: Callable[[], None]) -> None:
        """Let the loop's thread call ``action`` for a connection."""
        self._calls.put((connection, action))
        os.eventfd_write(self._wake_fileno, 1)

    def relay(self, turn: WebSocketTurn, upstream: int) -> None:
        """Take over the answer of a turn, which waits for its upstream.

        :param upstream: a descriptor that becomes readable when more has arrived.
        """
        self.call(turn.connection, partial(self._take_over, turn, upstream))

    def finish(self, turn: WebSocketTurn) -> None:
        """Continue after a turn has ended."""

        def go_on() -> None:
            connection = turn.connection
            connection.last_response_id = turn.response_id or connection.last_response_id
            connection.turn, connection.used_at = None, time.monotonic()

        self.call(turn.connection, go_on)

    # ----------------------------------------------------------------------------------------------------- the thread
    def notify_when_sent(self, connection: WebSocketConnection, sent: threading.Event) -> None:
        """Set ``sent`` when the client has accepted everything, or never will."""
        self._waiting[connection] = sent

    def _run(self) -> None:
        checked_at = time.monotonic()
        while True:
            for fileno, events in self._epoll.poll(self._tick):
                if fileno == self._wake_fileno:
                    self._run_calls()
                elif fileno == self._shutdown_fileno:
                    self._shut_down()
                elif isinstance(watched := self._watched.get(fileno), WebSocketTurn):
                    self._act(watched.connection, partial(self._advance, watched))
                elif watched:  # what is unsent is sent in any case
                    self._act(watched, partial(self._receive, watched) if events & ~select.EPOLLOUT else _do_nothing)
            if time.monotonic() - checked_at >= self._tick:
                checked_at = time.monotonic()
                for connection in tuple(self._connections):
                    self._act(connection, partial(self._check, connection, checked_at))

    def _run_calls(self) -> None:
        os.eventfd_read(self._wake_fileno)
        with contextlib.suppress(queue.Empty):
            while True:
                self._act(*self._calls.get_nowait())

    def _act(self, connection: WebSocketConnection, action: Callable[[], None]) -> None:
        """Call ``action``, then update what the loop waits for. An exception ends only this connection."""
        for step in (action, _do_nothing):
            try:
                step()
                self._settle(connection)
                return
            except Exception:  # all other connections depend on this thread
                log.exception("A WebSocket failed")
                connection.is_lost = True

    def _settle(self, connection: WebSocketConnection) -> None:
        """Update a connection after each event."""
        if connection not in self._connections:
            return
        if connection.turn is None and self._is_stopping():
            connection.close(CloseCode.GOING_AWAY, "The gateway stops.")
        connection.flush()
        is_ending = connection.is_lost or connection.is_closing
        if is_ending and connection.turn:
            self._cancel(connection.turn)
        if connection in self._waiting and (is_ending or not connection.has_unsent):
            self._waiting.pop(connection).set()
        if is_ending and connection.turn is None:
            self._end(connection)
            return
        if connection.turn is None and connection.messages:
            self._start_turn(connection)
        self._watch_client(connection)
        if connection.turn and connection.turn.upstream is not None:
            self._watch_upstream(connection.turn, wants=not connection.has_unsent)

    def _end(self, connection: WebSocketConnection) -> None:
        self._unwatch_client(connection)
        self._connections.discard(connection)
        connection.session.end()
        connection.release()
        self._on_end(connection)

    def _check(self, connection: WebSocketConnection, now: float) -> None:
        """Send a ping if it is due, and close connections of stalled clients."""
        if connection.has_unsent and now - connection.stalled_at > self._client_timeout:
            connection.give_up_if_stalled(now)
        elif connection.is_receiving and now - connection.received_at > self._client_timeout:
            connection.close(CloseCode.POLICY_VIOLATION, "The message did not arrive in time.")
        elif connection.turn is None and now - max(connection.used_at, connection.received_at) > IDLE_SECONDS:
            connection.close(CloseCode.GOING_AWAY, "The connection has not been used for long.")
        elif not connection.has_unsent and now - connection.sent_at >= self._ping_interval:
            connection.ping()
        if connection.turn and not connection.has_unsent:
            self._advance(connection.turn)  # it may have been silent for too long

    def _shut_down(self) -> None:
        self._epoll.unregister(self._shutdown_fileno)
        self._is_shut_down = True
        for connection in tuple(self._connections):
            if (turn := connection.turn) and turn.upstream is not None:
                self._act(connection, partial(self._hand_to_thread, turn, partial(turn.resume, waits=True)))

    # ------------------------------------------------------------------------------------------------------- messages
    def _receive(self, connection: WebSocketConnection) -> None:
        self._handle(connection, connection.receive())

    def _handle(self, connection: WebSocketConnection, messages: Iterable[bytes]) -> None:
        for message in messages:
            interrupted_id = read_interrupt(message) if connection.turn or connection.last_response_id else None
            if interrupted_id is not None:
                self._interrupt(connection, interrupted_id)
            elif len(connection.messages) < MAX_WAITING:
                connection.messages.append(message)
            else:
                text = f"More than {MAX_WAITING} messages wait for the running response."
                _send_error(connection, GatewayError(429, text, code="too_many_messages"))

    def _start_turn(self, connection: WebSocketConnection) -> None:
        message = connection.messages.popleft()
        connection.reserve()
        connection.turn = WebSocketTurn(self, connection, self._application, message)
        self._start_thread(connection.turn.run)

    def _interrupt(self, connection: WebSocketConnection, response_id: str) -> None:
        """Interrupt the running response.

        :param response_id: the response to interrupt. If it has just ended, there is nothing to do.
        """
        turn = connection.turn
        if turn and response_id in ("", turn.response_id):
            turn.is_interrupted = True
            if turn.upstream is not None and turn.answer:
                turn.answer.interrupt(INTERRUPTED)
                self._hand_to_thread(turn, turn.resume)
        elif response_id != connection.last_response_id:
            text = "The response to interrupt does not run on this connection."
            error = GatewayError(400, text, param="response_id", code="response_not_active")
            _send_error(connection, error)

    # --------------------------------------------------------------------------------------------------------- answers
    def _take_over(self, turn: WebSocketTurn, upstream: int) -> None:
        if turn.is_cancelled:
            self._hand_to_thread(turn, turn.end)
        elif turn.is_interrupted or self._is_shut_down:
            self._hand_to_thread(turn, partial(turn.resume, waits=True))
        else:
            turn.upstream = upstream

    def _advance(self, turn: WebSocketTurn) -> None:
        if turn.upstream is None or turn.answer is None or turn.connection.has_unsent:
            return
        if sent := turn.answer.advance(wait=False):
            turn.connection.send_events(sent)
        if turn.answer.state is not StreamState.WAITING:
            self._hand_to_thread(turn, turn.resume)

    def _cancel(self, turn: WebSocketTurn) -> None:
        """End a turn, because its client has disconnected. A thread that serves it notices the closed socket."""
        if turn.is_cancelled:
            return
        turn.is_cancelled = True
        with contextlib.suppress(OSError):
            turn.connection.conn.sock.shutdown(socket.SHUT_RD)
        if turn.upstream is not None:
            self._hand_to_thread(turn, turn.end)

    def _hand_to_thread(self, turn: WebSocketTurn, action: Callable[[], None]) -> None:
        self._watch_upstream(turn, wants=False)
        turn.upstream = None
        self._start_thread(action)

    # -------------------------------------------------------------------------------------------------------- watching
    def _watch_client(self, connection: WebSocketConnection) -> None:
        is_open = not connection.is_lost and not connection.is_closing
        events = select.EPOLLIN if is_open and len(connection.conn.unsent) < MAX_UNSENT_BYTES else 0
        events |= select.EPOLLOUT if connection.has_unsent and not connection.is_lost else 0
        if events == connection.watched_events:
            return
        if not events:
            self._unwatch_client(connection)
            return
        fileno = connection.conn.sock.fileno()
        if connection.watched_events:
            self._epoll.modify(fileno, events)
        else:
            self._epoll.register(fileno, events)
            self._watched[fileno] = connection
        connection.watched_events = events

    def _unwatch_client(self, connection: WebSocketConnection) -> None:
        if connection.watched_events:
            connection.watched_events = 0
            del self._watched[connection.conn.sock.fileno()]
            self._epoll.unregister(connection.conn.sock.fileno())

    def _watch_upstream(self, turn: WebSocketTurn, *, wants: bool) -> None:
        if wants == turn.is_watched or turn.upstream is None:
            return
        if not wants:
            del self._watched[turn.upstream]
            self._epoll.unregister(turn.upstream)
        else:
            try:
                self._epoll.register(turn.upstream, select.EPOLLIN)
            except OSError as error:  # the system limits the number of watched descriptors
                log.warning("A stream stays in its thread: %s", error)
                self._hand_to_thread(turn, partial(turn.resume, waits=True))
                return
            self._watched[turn.upstream] = turn
        turn.is_watched = wants


def _do_nothing() -> None:
    pass


def _send_error(connection: WebSocketConnection, error: GatewayError) -> None:
    """Send an error for a message, not for the running response."""
    connection.send_text(jsontext.dumps({"type": "error", "status": error.status, **error.body()}))
