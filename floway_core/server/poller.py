"""How the main loop waits: for its sockets, and for what other threads pass on to it."""

import os
import select
from collections import deque
from collections.abc import Callable
from typing import Any

from floway_core.server.connection import Connection


class Poller:
    """Waits with epoll. It stands in for a selector of the standard library, as far as gunicorn uses one.

    A connection is watched until its first event, and stays known to the system: this takes one system call for each
    request, where a selector takes two and a lot of code.
    """

    def __init__(self, calls: "CallQueue") -> None:
        """:param calls: what is done first in each turn."""
        self._calls = calls
        self._epoll = select.epoll()
        self._sources: dict[int, Callable[[], None]] = {}
        """What to call for each descriptor that is watched for good."""
        self._watched: dict[int, tuple[Callable[[Connection], None], Connection]] = {}
        """What to call for each connection."""

    def register(self, source: Any, events: int, callback: Callable[[Any], None]) -> None:
        """Watch a descriptor, or an object that has one, until ``unregister``.

        :param events: must be ``selectors.EVENT_READ``.
        :param callback: called with ``source`` as soon as it is readable.
        """
        fileno = source if isinstance(source, int) else source.fileno()
        self._sources[fileno] = lambda: callback(source)
        self._epoll.register(fileno, select.EPOLLIN)

    def unregister(self, source: Any) -> None:
        """Watch a descriptor no longer."""
        fileno = source if isinstance(source, int) else source.fileno()
        del self._sources[fileno]
        self._epoll.unregister(fileno)

    def watch(self, conn: Connection, events: int, callback: Callable[[Connection], None]) -> None:
        """Call ``callback`` once when a connection is ready.

        :param events: of ``epoll``.
        """
        self.expect(conn, callback)
        self.arm(conn, events)

    def expect(self, conn: Connection, callback: Callable[[Connection], None]) -> None:
        """Call ``callback`` at the next event of a connection that is armed, or will be."""
        self._watched[conn.sock.fileno()] = callback, conn

    def arm(self, conn: Connection, events: int) -> None:
        """Let the system report the next event of a connection. Any thread may call this."""
        if conn.is_registered:
            self._epoll.modify(conn.sock, events | select.EPOLLONESHOT)
        else:
            self._epoll.register(conn.sock, events | select.EPOLLONESHOT)
            conn.is_registered = True

    def forget(self, conn: Connection) -> None:
        """Call nothing for a connection. Closing it removes it from the system's list."""
        self._watched.pop(conn.sock.fileno(), None)

    def dispatch(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for events, and call what belongs to them."""
        events = self._epoll.poll(timeout)
        self._calls.run()
        for fileno, _ in events:
            if watched := self._watched.pop(fileno, None):
                callback, conn = watched
                callback(conn)
            elif source := self._sources.get(fileno):
                source()

    def close(self) -> None:
        """Stop watching."""
        self._epoll.close()


class CallQueue:
    """Calls that other threads and signal handlers pass on to the main loop. They wake it once for all that wait.

    It stands in for gunicorn's, which writes and reads a byte for each call.
    """

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._fileno = -1
        self._is_announced = False
        """Whether the main loop has been woken, and has not looked yet."""

    def init(self) -> None:
        """Open the descriptor, in the process of the worker."""
        self._fileno = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor. Later calls are never made."""
        self._is_announced = True
        os.close(self._fileno)

    def fileno(self) -> int:
        """Return the descriptor, which is readable while calls wait."""
        return self._fileno

    def defer(self, callback: Callable[..., object], *args: Any) -> None:
        """Let the main loop call ``callback`` now."""
        self.add(callback, *args)
        if not self._is_announced:
            self._is_announced = True
            os.eventfd_write(self._fileno, 1)

    def add(self, callback: Callable[..., object], *args: Any) -> None:
        """Let the main loop call ``callback`` before it looks at its next events. This does not wake it."""
        self._calls.append((callback, args))

    def run_callbacks(self, _: Any) -> None:
        """Make the calls that have woken the main loop."""
        os.eventfd_read(self._fileno)
        self._is_announced = False  # first: whoever adds a call from now on wakes the loop again
        self.run()

    def run(self) -> None:
        """Make the calls that wait, but not those that they add."""
        for _ in range(len(self._calls)):
            callback, args = self._calls.popleft()
            callback(*args)
