"""A thread that relays all streams of a worker.

A stream mostly waits. If each stream waited in its own thread, every event would wake a thread that needs the
interpreter lock three times (to wait, to receive, to send), and every thread would need a stack. So when a stream only
waits for its upstream, or for a slow client, its thread hands it over to this loop. The loop returns it to a thread for
work that may block, such as storing the response, after the client has accepted all earlier bytes.
"""

import contextlib
import errno
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from floway_core.engine.client_stream import WAITING, ClientStream
from floway_core.server.send_buffer import SendBuffer, frame_chunk

log = logging.getLogger("floway.streaming")

DISCONNECTED = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(eq=False)
class Stream:
    """A streamed response to a client. While it is in the loop, no other thread uses it."""

    answer: ClientStream
    """The source of the bytes. The loop only advances it while it waits for its upstream."""
    upstream: int
    """Descriptor of the upstream connection: it becomes readable when more may have arrived."""
    client: socket.socket
    chunked: bool
    on_leave: Callable[["Stream"], None]
    """Called by the loop after it has removed the stream."""
    unsent: SendBuffer = field(default_factory=SendBuffer)
    """Bytes that the client has not accepted yet. Until it has, nothing is read from the upstream."""
    stalled_at: float = 0.0
    """Monotonic time in seconds since when the client has not accepted any; 0 if nothing is unsent."""
    sent: int = 0
    """Bytes of the body that were sent or buffered."""
    error: OSError | None = None
    """Why the stream ends early: the client has disconnected or there was a fault (``ConnectionError``), or the client
    does not read (``TimeoutError``)."""
    poll_number: int = 0
    """The number of the loop's poll in which the stream was added."""


class StreamLoop:
    """Relays streams in a thread. Create and start one per worker; any thread may call ``add``."""

    def __init__(self, shutdown_fileno: int, client_timeout: float, tick: float) -> None:
        """:param shutdown_fileno: a descriptor that becomes readable when no stream may wait any longer.
        :param client_timeout: seconds for which a client may not read.
        :param tick: seconds between two checks of streams without events.
        """
        self._epoll = select.epoll()
        self._streams: dict[int, Stream] = {}
        """Each stream twice: by the descriptors of its upstream and of its client."""
        self._lock = threading.Lock()
        """Held while ``_streams`` changes together with what the system watches; never while a stream advances, so that
        new streams need not wait for that."""
        self._poll_number = 0
        self._shutdown_fileno = shutdown_fileno
        self._is_shut_down = False
        self._client_timeout = client_timeout
        self._tick = tick
        self._epoll.register(shutdown_fileno, select.EPOLLIN)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="streams", daemon=True).start()

    def add(self, stream: Stream) -> None:
        """Relay ``stream`` from now on. It returns at once after shutdown, or if no descriptor is free to watch it."""
        if not self._register(stream):
            self._return_to_thread(stream)

    def add_without_client(self, answer: ClientStream, signal: socket.socket, finish: Callable[[], None]) -> None:
        """Advance a stream that has no client while it waits.

        :param answer: has a descriptor.
        :param signal: closing its other end makes the stream leave.
        :param finish: called in a thread as soon as the stream leaves: it needs one, or must end.
        """
        upstream = answer.fileno()
        assert upstream is not None

        def leave(stream: Stream) -> None:
            try:
                threading.Thread(target=finish, name="background", daemon=True).start()
            except RuntimeError:  # the system allows no thread; the remaining work is short
                finish()

        self.add(Stream(answer, upstream, signal, chunked=False, on_leave=leave))

    def _register(self, stream: Stream) -> bool:
        """Return whether the loop has the stream now. From then on only the loop's thread may touch it."""
        client = stream.client.fileno()
        with self._lock:
            if self._is_shut_down:
                return False
            stream.poll_number = self._poll_number
            try:
                if stream.unsent:  # the loop relies on ``stalled_at`` as soon as it finds the stream
                    self._note_stall(stream)
                self._streams[stream.upstream] = self._streams[client] = stream
                if stream.unsent:
                    self._epoll.register(client, select.EPOLLRDHUP | select.EPOLLOUT)
                else:
                    self._epoll.register(client, select.EPOLLRDHUP)
                    self._epoll.register(stream.upstream, select.EPOLLIN)
            except OSError as error:  # the system limits the number of watched descriptors
                log.warning("A stream stays in its thread: %s", error)
                self._unregister(stream)
                return False
        return True

    def _unregister(self, stream: Stream) -> bool:
        """Forget a stream, with the lock held. Return whether the loop had it."""
        if self._streams.get(stream.upstream) is not stream:
            return False
        for fileno in (stream.upstream, stream.client.fileno()):
            self._streams.pop(fileno, None)
            with contextlib.suppress(OSError):  # the upstream is not registered while the client is watched
                self._epoll.unregister(fileno)
        return True

    def _run(self) -> None:
        check_at, tick, streams, poll = time.monotonic() + self._tick, self._tick, self._streams, self._epoll.poll
        while True:
            self._poll_number += 1
            for fileno, event_mask in poll(tick):
                if stream := streams.get(fileno):
                    try:
                        self._on_event(stream, fileno, event_mask)
                    except Exception as error:  # noqa: BLE001 - logged there
                        self._abort(stream, error)
                elif fileno == self._shutdown_fileno:
                    self._shut_down()
            now = time.monotonic()
            if now >= check_at:
                check_at = now + tick
                self._check_idle_streams(now)

    def _call_safely(self, action: Callable[[Stream], None], stream: Stream) -> None:
        """Call ``action`` for a stream; after an exception only this stream ends."""
        try:
            action(stream)
        except Exception as error:  # noqa: BLE001 - logged there
            self._abort(stream, error)

    def _abort(self, stream: Stream, error: Exception) -> None:
        """End a stream after an exception: all other streams depend on this thread."""
        log.error("A stream failed", exc_info=error)
        stream.error = ConnectionAbortedError()
        self._leave(stream)

    def _on_event(self, stream: Stream, fileno: int, events: int) -> None:
        if fileno == stream.upstream:
            if not stream.stalled_at:
                self._advance(stream)
        elif not events & DISCONNECTED:
            self._flush(stream)
        elif stream.poll_number < self._poll_number:
            # Otherwise the event may be one of an earlier stream, whose descriptor the system has used again. If it is
            # one of this stream, the next poll returns it once more.
            # The system gives up clients that do not read, too.
            code = stream.client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            stream.error = TimeoutError() if code == errno.ETIMEDOUT else ConnectionResetError()
            self._leave(stream)

    def _advance(self, stream: Stream) -> None:
        """Relay the bytes that the upstream has sent."""
        answer, is_sent = stream.answer, True
        if sent := answer.advance(wait=False):
            stream.sent += len(sent)
            try:
                for piece in frame_chunk(sent) if stream.chunked else (sent,):
                    is_sent = stream.unsent.write(stream.client, piece)
            except OSError as error:
                stream.error = error
                self._leave(stream)
                return
        if not is_sent:
            self._note_stall(stream)
            self._watch(stream, client=True)
        elif answer.state is not WAITING:
            self._leave(stream)  # its thread sends the rest

    def _flush(self, stream: Stream) -> None:
        """Send a slice of the unsent bytes, so that all streams take turns."""
        try:
            count = stream.unsent.flush(stream.client)
        except OSError as error:
            stream.error = error
            self._leave(stream)
            return
        if not stream.unsent:
            stream.stalled_at = 0.0
            self._watch(stream, client=False)
            if stream.answer.state is WAITING:
                self._advance(stream)
            else:
                self._leave(stream)  # its thread sends the rest
        elif count:
            stream.stalled_at = time.monotonic()

    def _watch(self, stream: Stream, *, client: bool) -> None:
        """Wait until the client accepts bytes, or if ``client`` is false, until the upstream sends some."""
        self._epoll.modify(stream.client.fileno(), select.EPOLLRDHUP | (select.EPOLLOUT if client else 0))
        if client:
            self._epoll.unregister(stream.upstream)
        else:
            self._epoll.register(stream.upstream, select.EPOLLIN)

    def _note_stall(self, stream: Stream) -> None:
        stream.unsent.has_progressed(stream.client)
        stream.stalled_at = time.monotonic()

    def _check_idle_streams(self, now: float) -> None:
        """Send the keep-alives that are due, and remove streams whose client does not read."""
        with self._lock:
            streams = set(self._streams.values())
        for stream in streams:
            if not stream.unsent:
                self._call_safely(self._advance, stream)
            elif now - stream.stalled_at > self._client_timeout:
                self._call_safely(self._give_up_if_stalled, stream)

    def _give_up_if_stalled(self, stream: Stream) -> None:
        if stream.unsent.has_progressed(stream.client):
            stream.stalled_at = time.monotonic()
        else:
            stream.error = TimeoutError()
            self._leave(stream)

    def _shut_down(self) -> None:
        with self._lock:
            self._is_shut_down = True
            self._epoll.unregister(self._shutdown_fileno)
            streams = set(self._streams.values())
        for stream in streams:
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        with self._lock:
            has_left = not self._unregister(stream)
        if not has_left:
            self._return_to_thread(stream)

    def _return_to_thread(self, stream: Stream) -> None:
        try:
            stream.on_leave(stream)
        except RuntimeError as error:  # the process ends, so no thread can continue it
            log.warning("A stream was cut off: %s", error)
