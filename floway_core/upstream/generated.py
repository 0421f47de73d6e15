"""The body of an answer that a provider generates itself, while it is relayed."""

import os
import threading
from collections.abc import Callable, Iterable

from floway_core.contexts import ClientConnection
from floway_core.errors import Overloaded
from floway_core.provider import ResponseBody
from floway_core.upstream.poll import ReadinessPoller

MAX_BUFFERED_BYTES = 256 * 1024
"""The generator waits while so many bytes are not read yet."""


class GeneratedBody(ResponseBody):
    """Reads an iterable of byte strings, usually a generator, in a separate thread.

    So the iterable may block: the client gets keep-alives meanwhile, the timeouts of the settings apply, and the
    gateway notices that the client disconnects. The thread starts with the first ``read`` and ends with the iterable.
    ``read`` raises an exception of the iterable after it has returned all earlier bytes.

    A thread costs more than a connection: to convert the answer of another server, use ``TranslatedBody``.
    """

    def __init__(self, chunks: Iterable[bytes], on_close: Callable[[], None] | None = None) -> None:
        """:param chunks: a generator is closed when it ends or, after the body has been closed, at its next ``yield``.
        :param on_close: called once when the body is closed, by the thread that closes it. It should cancel the
            operation on which the iterable blocks.
        """
        self._chunks = chunks
        self._on_close = on_close
        self._changed = threading.Condition()
        """Guards the following attributes."""
        self._buffer = bytearray()
        self._has_started = self._has_ended = self._is_closed = False
        self._error: Exception | None = None
        self._readable, self._announce = os.pipe()
        """A pipe with one byte in it while ``read`` would return at once."""
        self._is_announced = False
        self._poller: ReadinessPoller | None = None

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        self._start()
        if timeout:
            if self._poller is None or self._poller.client is not client:
                self._poller = ReadinessPoller(self._readable, client)
            self._poller.wait(timeout)
        return self._take()

    def fileno(self) -> int | None:
        return self._readable

    def close(self) -> None:
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._buffer.clear()
            self._changed.notify()
            os.close(self._readable)
            os.close(self._announce)
        if not self._has_started:
            self._close_chunks()
        if self._on_close:
            self._on_close()

    def _start(self) -> None:
        if not self._has_started:
            try:
                threading.Thread(target=self._generate, name="generated body", daemon=True).start()
            except RuntimeError:  # the system allows no thread
                raise Overloaded from None
            self._has_started = True

    def _take(self) -> bytes | None:
        with self._changed:
            if self._buffer:
                data = bytes(self._buffer)
                self._buffer.clear()
                if not self._has_ended:
                    os.read(self._readable, 1)
                    self._is_announced = False
                self._changed.notify()
                return data
            if self._error:
                raise self._error
            return b"" if self._has_ended else None

    # ------------------------------------------------------------------------------------------ the generating thread
    def _generate(self) -> None:
        error: Exception | None = None
        try:
            for chunk in self._chunks:
                if not self._append(chunk):
                    break
        except Exception as exception:  # noqa: BLE001 - it belongs to the request, not to this thread: ``read`` raises it
            error = exception
        except BaseException as exception:  # noqa: BLE001 - such as SystemExit, which must not end the thread of the request either
            error = RuntimeError(f"The generator of an answer raised {type(exception).__name__}.")
        try:
            self._close_chunks()
        except Exception as exception:  # noqa: BLE001 - as above
            error = error or exception
        with self._changed:
            self._has_ended, self._error = True, error
            self._announce_data()

    def _append(self, chunk: bytes) -> bool:
        """Buffer a chunk for the reader, and wait while the buffer is full. Return whether the body is still open."""
        with self._changed:
            if chunk and not self._is_closed:
                self._buffer += chunk
                self._announce_data()
            self._changed.wait_for(lambda: self._is_closed or len(self._buffer) < MAX_BUFFERED_BYTES)
            return not self._is_closed

    def _announce_data(self) -> None:
        if not self._is_announced and not self._is_closed:
            self._is_announced = True
            os.write(self._announce, b"\0")

    def _close_chunks(self) -> None:
        close = getattr(self._chunks, "close", None)  # generators have it, other iterables need not
        if close:
            close()
