"""A log handler that never blocks: lines for a slow reader are buffered up to a limit, and dropped beyond it."""

import contextlib
import logging
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

MAX_BACKLOG_BYTES = 2**20
"""Bytes of buffered lines."""

FLUSH_SECONDS = 1.0
"""Time for the reader to read the backlog when the process ends."""

Write = Callable[[bytes], int]
"""Writes bytes without blocking; returns how many were written, or raises ``BlockingIOError``."""


class LogWriter(logging.Handler):
    """Writes lines to a descriptor without ever waiting for it.

    If the reader is slow, lines are buffered in a backlog, which a thread writes. The thread exists only while there is
    a backlog. Lines that do not fit are dropped; when the reader reads again, a line states how many.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._write = open_for_writing(descriptor)
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or add it to the backlog."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a message may fail to be formatted; handled as by the library's handlers
            self.handleError(record)
            return
        if self._process != os.getpid():
            self._reset()  # after a fork, the backlog is the parent's
        if self._backlog or (unwritten := self._try_write(line)):
            self._enqueue(line if self._backlog else unwritten)

    def _try_write(self, line: bytes) -> bytes:
        """Write as much of ``line`` as possible; return the rest."""
        try:
            return line[self._write(line) :]
        except BlockingIOError:
            return line
        except OSError:  # the reader has closed the log
            return b""

    def _enqueue(self, line: bytes) -> None:
        if self._backlog_bytes + len(line) > MAX_BACKLOG_BYTES:
            self._dropped += 1
            return
        self._backlog.append(line)
        self._backlog_bytes += len(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_backlog, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the system allows no thread: the next line tries again
                self._thread = None

    def _write_backlog(self) -> None:
        while True:
            _wait_until_writable(self._descriptor, None)
            with self.lock or contextlib.nullcontext():
                if not self._drain():
                    continue
                self._thread = None
                return

    def _drain(self) -> bool:
        """Write as much of the backlog as possible; return whether it is empty."""
        while self._backlog:
            line = self._backlog.popleft()
            self._backlog_bytes -= len(line)
            if unwritten := self._try_write(line):
                self._backlog.appendleft(unwritten)
                self._backlog_bytes += len(unwritten)
                return False
            if not self._backlog and self._dropped:
                message = f"{self._dropped} lines of the log were dropped, because nobody was reading it"
                record = logging.LogRecord("floway.log", logging.WARNING, "", 0, message, None, None)
                self._dropped = 0
                self._backlog.append(self.format(record).encode() + b"\n")
                self._backlog_bytes += len(self._backlog[0])
        return True

    def flush(self) -> None:
        """Give the reader a moment to read the backlog."""
        deadline = time.monotonic() + FLUSH_SECONDS
        with self.lock or contextlib.nullcontext():
            while self._process == os.getpid() and not self._drain() and time.monotonic() < deadline:
                _wait_until_writable(self._descriptor, deadline - time.monotonic())


def _wait_until_writable(descriptor: int, seconds: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll(None if seconds is None else max(0.0, seconds * 1000))


def open_for_writing(descriptor: int) -> Write:
    """Return a function that writes to ``descriptor`` without blocking.

    The flags of the descriptor do not change, because other processes share them.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        connection = socket.socket(fileno=os.dup(descriptor))
        return lambda data: connection.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        with contextlib.suppress(OSError):  # a terminal of another user, for example
            writable = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return lambda data: os.write(writable, data)
    return lambda data: os.write(descriptor, data)  # a file, which never blocks


def standard_error_handler() -> logging.Handler:
    """Return a handler for standard error. It may block if standard error is not a descriptor."""
    try:
        return LogWriter(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return logging.StreamHandler(sys.stderr)
