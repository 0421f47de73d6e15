"""Idle WebSocket connections of a process, by conversation and account."""

import contextlib
import logging
import select
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from floway_codex.websocket.connection import ConnectionLost, WebSocketConnection
from floway_codex.websocket.increments import Progress

log = logging.getLogger("floway.codex")

MAX_IDLE = 64
"""Idle connections of a process. Each may hold 200 KB for compression."""
MAX_IDLE_BYTES = 64 * 2**20
"""Limit for the inputs of idle connections, which are stored to be compared with the next request."""
IDLE_SECONDS = 900.0
"""Time after which an idle connection is closed. The CLI never does, but it ends with its user's session."""
MAX_THREADS = 10_000
"""Conversations that a process remembers, to tell the first connection of each."""
MAX_UNSOLICITED_READS = 64
"""Reads of data that nobody has requested, after which an idle connection is closed."""
CHECK_SECONDS = 5.0
"""Time between two searches for connections that have been idle for too long."""


class ConversationKey(NamedTuple):
    """The values that requests must have in common to share a connection."""

    upstream_id: str
    account_id: str
    api_key_id: str
    session: str
    thread: str
    user_agent: str


@dataclass(eq=False)
class IdleConnection:
    """A connection between two requests."""

    key: ConversationKey
    connection: WebSocketConnection
    descriptor: int
    progress: Progress
    since: float
    """In monotonic time."""


class ConnectionPool:
    """Keeps connections between the requests of a conversation. One per process; serves all threads.

    A thread of its own answers the backend's pings, and closes connections that the backend has closed or that have
    been idle for too long. It starts with the first idle connection.
    """

    def __init__(
        self, max_idle: int = MAX_IDLE, idle_seconds: float = IDLE_SECONDS, max_bytes: int = MAX_IDLE_BYTES
    ) -> None:
        self._max_idle = max_idle
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        """Guards the following attributes, and the idle connections."""
        self._idle: OrderedDict[ConversationKey, IdleConnection] = OrderedDict()
        """The one that became idle last is at the end."""
        self._by_descriptor: dict[int, IdleConnection] = {}
        self._threads: OrderedDict[ConversationKey, None] = OrderedDict()
        self._epoll: select.epoll | None = None

    def add_thread(self, key: ConversationKey) -> bool:
        """Remember that a conversation opens a connection. Return whether it is the first one in this process."""
        with self._lock:
            is_first = key not in self._threads
            self._threads[key] = None
            self._threads.move_to_end(key)
            if len(self._threads) > MAX_THREADS:
                self._threads.popitem(last=False)
            return is_first

    def find_progress(self, key: ConversationKey) -> Progress | None:
        """What the idle connection of a conversation has sent; None if there is none."""
        with self._lock:
            idle = self._idle.get(key)
            return idle.progress if idle else None

    def take(self, key: ConversationKey) -> IdleConnection | None:
        """Take the idle connection of a conversation; None if there is none that is still open."""
        with self._lock:
            idle = self._idle.get(key)
            if idle is None:
                return None
            self._forget(idle)
            return idle if self._is_open(idle) else None

    def put(self, key: ConversationKey, connection: WebSocketConnection, progress: Progress) -> None:
        """Store a connection for the next request of the conversation. It replaces an existing one."""
        idle = IdleConnection(key, connection, connection.fileno(), progress, time.monotonic())
        with self._lock:
            if key in self._idle:
                self._drop(self._idle[key])
            while self._idle and (len(self._idle) >= self._max_idle or self._bytes() + progress.size > self._max_bytes):
                self._drop(next(iter(self._idle.values())))
            if progress.size > self._max_bytes:
                connection.close()
                return
            try:
                self._watch(connection)
            except (OSError, RuntimeError) as error:  # the system allows no more descriptors or threads
                log.warning("A WebSocket connection is not kept open: %s", error)
                connection.close()
                return
            self._idle[key] = self._by_descriptor[idle.descriptor] = idle

    def _bytes(self) -> int:
        return sum(idle.progress.size for idle in self._idle.values())

    def _watch(self, connection: WebSocketConnection) -> None:
        if self._epoll is None:
            epoll = select.epoll()
            threading.Thread(target=self._run, args=(epoll,), name="codex websockets", daemon=True).start()
            self._epoll = epoll
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _forget(self, idle: IdleConnection) -> None:
        self._idle.pop(idle.key, None)
        self._by_descriptor.pop(idle.descriptor, None)
        assert self._epoll is not None
        with contextlib.suppress(OSError):  # a closed descriptor is not watched any more
            self._epoll.unregister(idle.descriptor)

    def _drop(self, idle: IdleConnection) -> None:
        self._forget(idle)
        idle.connection.close()

    def _is_open(self, idle: IdleConnection) -> bool:
        """Discard what has arrived on an idle connection. Close it if the backend has, or does not stop sending."""
        try:
            for _ in range(MAX_UNSOLICITED_READS):
                if idle.connection.read(0.0) is None:
                    return True
        except ConnectionLost:
            pass
        idle.connection.close()
        return False

    # ------------------------------------------------------------------------------------------------ the pool's thread
    def _run(self, epoll: select.epoll) -> None:
        while True:
            ready = epoll.poll(CHECK_SECONDS)
            with self._lock:
                for descriptor, _ in ready:
                    idle = self._by_descriptor.get(descriptor)
                    if idle and not self._check(idle):
                        self._drop(idle)
                self._drop_old(time.monotonic() - self._idle_seconds)

    def _check(self, idle: IdleConnection) -> bool:
        try:
            return self._is_open(idle)
        except Exception:  # all other connections depend on this thread
            log.exception("An idle WebSocket connection failed")
            return False

    def _drop_old(self, before: float) -> None:
        for idle in [one for one in self._idle.values() if one.since < before]:
            self._drop(idle)
