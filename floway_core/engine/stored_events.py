"""The stream of a background response for a client that follows it. The events come from the database."""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import peewee

from floway_core.conversation import background
from floway_core.engine.client_stream import ClientStream, StreamState
from floway_core.protocol import sse
from floway_core.protocol.forwarded_answer import ForwardedAnswer
from floway_core.protocol.responses import TERMINAL_TYPES
from floway_core.runtime.memory import MemoryBudget

log = logging.getLogger("floway.background")

MAX_BUFFERED_BYTES = 2**20
"""Bytes to read ahead for a slow client."""

UNCOUNTED_BYTES = 64 * 1024
"""The size of events that need no memory of the budget."""

LAST_EVENTS_SECONDS = 0.8
"""How long to wait for further events after the gateway has announced its end."""


class StoredEventStream(ClientStream):
    """Events that another thread fetches (``fetch``). While it waits, it needs no thread."""

    def __init__(
        self,
        row: int,
        after: int,
        *,
        keepalive_interval: float,
        shutdown_fileno: int,
        memory: MemoryBudget,
        find_response: Callable[[], Mapping[str, Any]],
    ) -> None:
        """:param row: row id of the background response.
        :param after: the sequence number of the last event that the client has seen.
        :param memory: for the events that the client has not received. While there is none, no events are fetched.
        :param find_response: returns the response object, if the last events are missing.
        """
        super().__init__(ForwardedAnswer())
        self._row = row
        self._after = after
        self._find_response = find_response
        self._keepalive_interval = keepalive_interval
        self._shutdown_fileno = shutdown_fileno
        self._memory = memory
        self._page_bytes = 0
        """The size of the next events, if there was no memory for them before."""
        self._reserved_for_buffer = 0
        self._reserved_for_output = 0
        """Bytes that are reserved for what the client is receiving."""
        self._buffer = bytearray()
        self._has_all = False
        """Whether the buffer contains the last events."""
        self._lock = threading.Lock()
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._last_sent = time.monotonic()

    def fileno(self) -> int | None:
        """Return a descriptor that is readable while the buffer contains bytes."""
        return None if self._is_closed else self._signal

    def fetch(self, database: peewee.Database) -> None:
        """Read newly stored events. Called by one thread."""
        if self._has_all or len(self._buffer) > MAX_BUFFERED_BYTES or not self._has_memory(self._page_bytes):
            return
        page = background.read_events(database, self._row, self._after)
        events = page.events
        if page.is_last:
            events += self._missing_end(database, page.last_number)
        self._page_bytes = len(events)
        with self._lock:
            if self._is_closed or not self._reserve(len(events)):
                return
            self._after, self._page_bytes = page.last_number, 0
            if events or page.is_last:
                self._buffer += events
                self._has_all = page.is_last
                os.eventfd_write(self._signal, 1)

    def _has_memory(self, size: int) -> bool:
        """Return whether there is memory for ``size`` bytes now."""
        if size <= UNCOUNTED_BYTES:
            return True
        has_memory = self._memory.reserve(min(size, self._memory.limit))
        if has_memory:
            self._memory.release(min(size, self._memory.limit))
        return has_memory

    def _reserve(self, size: int) -> bool:
        """Reserve memory for ``size`` bytes in the buffer; return whether there was any."""
        if size <= UNCOUNTED_BYTES:
            return True
        size = min(size, self._memory.limit)  # what is larger has to be sent, too
        if not self._memory.reserve(size):
            return False
        self._reserved_for_buffer += size
        return True

    def _missing_end(self, database: peewee.Database, after: int) -> bytes:
        """Return the terminal event, if none is stored because the response was cancelled or its worker died."""
        last = background.read_last_event(database, self._row)
        if last and background.content_of(last).get("type") in TERMINAL_TYPES:
            return b""
        number = background.number_of(last) + 1 if last else after + 1
        return background.terminal_event(self._find_response(), number) if number > after else b""

    def _step(self, wait: bool) -> bytes:
        if self.state is StreamState.NEEDS_THREAD:
            self._end()
            return b""
        if wait:
            self._wait()
        with self._lock:
            if self._is_closed:
                return b""
            if _is_readable(self._signal, 0):
                os.eventfd_read(self._signal)
            self._memory.release(self._reserved_for_output)  # the client has received it
            self._reserved_for_output, self._reserved_for_buffer = self._reserved_for_buffer, 0
            output, self._buffer = bytes(self._buffer), bytearray()
            if self._has_all:
                self.state = StreamState.NEEDS_THREAD
                output += sse.DONE
        now = time.monotonic()
        if not output and now - self._last_sent >= self._keepalive_interval:
            output = sse.KEEPALIVE
        self._last_sent = now if output else self._last_sent
        return output

    def _wait(self) -> None:
        """Wait until there is something to send."""
        poll = select.poll()
        poll.register(self._signal, select.POLLIN)
        poll.register(self._shutdown_fileno, select.POLLIN)
        poll.poll(max(0.0, self._last_sent + self._keepalive_interval - time.monotonic()) * 1000)
        # A response of this process fails now, and its last events will follow.
        if _is_readable(self._shutdown_fileno, 0) and not _is_readable(self._signal, LAST_EVENTS_SECONDS):
            self.state = StreamState.ENDED
            raise ConnectionAbortedError("the gateway stops")

    def _release(self) -> None:
        with self._lock:
            self._memory.release(self._reserved_for_buffer + self._reserved_for_output)
            os.close(self._signal)


def _is_readable(fileno: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(timeout * 1000))
