"""A log handler that never waits: what its reader does not take is kept up to a limit, and counted beyond it."""

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
"""Bytes of lines that wait for the reader."""

FLUSH_SECONDS = 1.0
"""Time for the reader to take the backlog when the process ends."""

Write = Callable[[bytes], int]
"""Writes bytes without waiting; returns how many were written, or raises ``BlockingIOError``."""


class LogWriter(logging.Handler):
    """Writes lines to a descriptor without ever waiting for it.

    Lines that the reader does not take at once wait in a backlog, which a thread writes. The thread exists only while
    there is a backlog. Lines that do not fit are counted, and a line says how many, once the reader reads again.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._write = open_for_writing(descriptor)
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = self._dropped = 0
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or keep it for later."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001 - a message may fail to be formatted; handled as by the library's handlers
            self.handleError(record)
            return
        if self._process != os.getpid():
            self._forget()  # after a fork, the backlog is the parent's
        if self._backlog or (rest := self._try_write(line)):
            self._keep(line if self._backlog else rest)

    def _try_write(self, line: bytes) -> bytes:
        """Write as much of ``line`` as the reader takes; return the rest."""
        try:
            return line[self._write(line) :]
        except BlockingIOError:
            return line
        except OSError:  # the reader is gone, and so is the log
            return b""

    def _keep(self, line: bytes) -> None:
        if self._backlog_bytes + len(line) > MAX_BACKLOG_BYTES:
            self._dropped += 1
            return
        self._backlog.append(line)
        self._backlog_bytes += len(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_backlog, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread to be had: the next line tries again
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
        """Write the backlog as far as the reader takes it; return whether nothing is left."""
        while self._backlog:
            line = self._backlog.popleft()
            self._backlog_bytes -= len(line)
            if rest := self._try_write(line):
                self._backlog.appendleft(rest)
                self._backlog_bytes += len(rest)
                return False
            if not self._backlog and self._dropped:
                message = f"{self._dropped} lines of the log were dropped, because nobody was reading it"
                record = logging.LogRecord("floway.log", logging.WARNING, "", 0, message, None, None)
                self._dropped = 0
                self._backlog.append(self.format(record).encode() + b"\n")
                self._backlog_bytes += len(self._backlog[0])
        return True

    def flush(self) -> None:
        """Give the reader a moment to take the backlog."""
        deadline = time.monotonic() + FLUSH_SECONDS
        with self.lock or contextlib.nullcontext():
            while self._process == os.getpid() and not self._drain() and time.monotonic() < deadline:
                _wait_until_writable(self._descriptor, deadline - time.monotonic())


def _wait_until_writable(descriptor: int, seconds: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll(None if seconds is None else max(0.0, seconds * 1000))


def open_for_writing(descriptor: int) -> Write:
    """Return a function that writes to ``descriptor`` without waiting.

    The descriptor itself stays as it is: other processes share its flags.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        connection = socket.socket(fileno=os.dup(descriptor))
        return lambda data: connection.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        with contextlib.suppress(OSError):  # a terminal of another user, for example
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return lambda data: os.write(own, data)
    return lambda data: os.write(descriptor, data)  # a file, which takes everything


def standard_error_handler() -> logging.Handler:
    """Return a handler for standard error; one that may wait if standard error is no descriptor."""
    try:
        return LogWriter(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return logging.StreamHandler(sys.stderr)
