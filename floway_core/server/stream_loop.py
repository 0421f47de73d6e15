"""One thread that passes on all streams of a worker.

A stream spends its life waiting. Where each waits in a thread of its own, every event wakes one, which has to get hold
of the interpreter three times (to wait, to receive, to send) while all others want it, too; and each keeps its stack.
So when a stream has begun, and only waits for its upstream, its thread leaves it to this one, and takes it back, or
another one does, when there is something to do that takes longer: storing the response, most of all.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

log = logging.getLogger("floway.streaming")

GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


@dataclass(eq=False)
class Stream:
    """An answer on its way to a client. While it is in the loop, nobody else touches it."""

    pieces: Iterator[bytes | None]
    """Does not wait: ``b""`` says that nothing is there, None that a thread is to go on."""
    upstream: int
    """The descriptor that becomes readable when there may be more."""
    client: socket.socket
    chunked: bool
    on_leave: Callable[["Stream"], None]
    """Called in the loop, when the stream is not in it any more."""
    unsent: bytes = b""
    """What the client has not taken yet. Until it has, nothing is read from the upstream."""
    stalled_at: float = field(default=0.0)
    """Since when (monotonic, seconds) the client has not taken anything of it."""
    sent: int = 0
    """Bytes of the body."""
    error: OSError | None = None
    """Why the client gets no more of it: it is gone or there was a fault (``ConnectionError``), or it stands still
    (``TimeoutError``)."""


class StreamLoop:
    """Make one per worker, and start it; ``add`` may be called by any thread."""

    def __init__(self, ending: int, patience: float, tick: float) -> None:
        """:param ending: a descriptor that becomes readable when no stream may wait any longer.
        :param patience: seconds that a client may stand still.
        :param tick: seconds between two looks at streams on which nothing happens.
        """
        self._epoll = select.epoll()
        self._streams: dict[int, Stream] = {}
        """By the descriptors of both sides."""
        self._lock = threading.Lock()
        """Held while ``_streams`` changes, and while events are looked at, which could be those of another stream else:
        descriptors are used again."""
        self._ending = ending
        self._ended = False
        self._patience = patience
        self._tick = tick
        self._epoll.register(ending, select.EPOLLIN)

    def start(self) -> None:
        threading.Thread(target=self._run, name="streams", daemon=True).start()

    def add(self, stream: Stream) -> None:
        """Pass ``stream`` on from now on, or let it leave at once if that cannot be. Its client must not block."""
        client = stream.client.fileno()
        with self._lock:
            self._streams[stream.upstream] = self._streams[client] = stream
            try:
                self._epoll.register(client, select.EPOLLRDHUP)
                self._epoll.register(stream.upstream, select.EPOLLIN)
            except OSError as error:  # the system has a limit
                log.warning("A stream keeps its thread: %s", error)
                self._leave(stream)
            else:
                if self._ended:
                    self._leave(stream)

    def _run(self) -> None:
        looked = time.monotonic()
        while True:
            events = self._epoll.poll(self._tick)
            with self._lock:
                for fileno, what in events:
                    if fileno == self._ending:
                        self._end()
                    elif stream := self._streams.get(fileno):
                        self._safely(self._on_event, stream, fileno, what)
                now = time.monotonic()
                if now - looked >= self._tick:
                    looked = now
                    self._look_after_all(now)

    def _safely(self, act: Callable, stream: Stream, *arguments: int) -> None:
        try:
            act(stream, *arguments)
        except Exception:  # all others still depend on this thread
            log.exception("A stream failed")
            stream.error = ConnectionAbortedError()
            self._leave(stream)

    def _on_event(self, stream: Stream, fileno: int, events: int) -> None:
        if fileno == stream.upstream:
            self._advance(stream)
        elif events & GONE:
            stream.error = ConnectionResetError()
            self._leave(stream)
        else:
            self._send(stream)

    def _advance(self, stream: Stream) -> None:
        try:
            piece = next(stream.pieces)
        except StopIteration:
            piece = None
        if piece is None:
            self._leave(stream)
        elif piece:
            stream.sent += len(piece)
            stream.unsent = b"%X\r\n%b\r\n" % (len(piece), piece) if stream.chunked else piece
            self._send(stream)

    def _send(self, stream: Stream) -> None:
        waited = bool(stream.stalled_at)
        try:
            count = stream.client.send(stream.unsent)
        except BlockingIOError:
            count = 0
        except OSError as error:
            stream.error = error
            self._leave(stream)
            return
        stream.unsent = stream.unsent[count:]
        if stream.unsent:
            if count or not waited:
                stream.stalled_at = time.monotonic()
            if not waited:
                self._wait_for(stream, client=True)
        elif waited:
            stream.stalled_at = 0.0
            self._wait_for(stream, client=False)

    def _wait_for(self, stream: Stream, client: bool) -> None:
        """Wait for the client to take more, instead of the upstream to tell more; or the other way round."""
        self._epoll.modify(stream.client.fileno(), select.EPOLLRDHUP | (select.EPOLLOUT if client else 0))
        if client:
            self._epoll.unregister(stream.upstream)
        else:
            self._epoll.register(stream.upstream, select.EPOLLIN)

    def _look_after_all(self, now: float) -> None:
        """Keep-alives, and the ends of patience."""
        for stream in set(self._streams.values()):
            if not stream.stalled_at:
                self._safely(self._advance, stream)
            elif now - stream.stalled_at > self._patience:
                stream.error = TimeoutError()
                self._leave(stream)

    def _end(self) -> None:
        self._ended = True
        self._epoll.unregister(self._ending)
        for stream in set(self._streams.values()):
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        for fileno in (stream.upstream, stream.client.fileno()):
            self._streams.pop(fileno, None)
            with contextlib.suppress(OSError):  # an upstream is not registered while its client is waited for
                self._epoll.unregister(fileno)
        try:
            stream.on_leave(stream)
        except RuntimeError as error:  # no thread is left to go on with it, because the process ends
            log.warning("A stream was cut off: %s", error)
