"""The body of an answer that a provider generates itself, while it is relayed."""

import os
import threading
from collections.abc import Callable, Iterable

from floway_core.contexts import ClientConnection
from floway_core.errors import Overloaded
from floway_core.provider import ResponseBody
from floway_core.upstream.poll import ReadinessPoller

MAX_BUFFERED_BYTES = 256 * 1024
"""The generator waits while the client has still to read as much."""


class GeneratedBody(ResponseBody):
    """Reads an iterable of byte strings, usually a generator, in a thread of its own.

    So the iterable may wait for whatever it needs: the client gets keep-alives meanwhile, the timeouts of the settings
    apply, and the gateway notices a client that hangs up. The thread starts with the first ``read`` and ends with the
    iterable. An exception of the iterable is raised by ``read``, after what came before.

    A thread costs more than a connection does: to convert what another server sends, use ``TranslatedBody``.
    """

    def __init__(self, chunks: Iterable[bytes], on_close: Callable[[], None] | None = None) -> None:
        """:param chunks: a generator is closed when it ends or, after the body has been closed, at its next ``yield``.
        :param on_close: called once when the body is closed, by the thread that closes it. Let it end what the iterable
            waits for.
        """
        self._chunks = chunks
        self._on_close = on_close
        self._changed = threading.Condition()
        """Guards all that follows."""
        self._buffer = bytearray()
        self._has_started = self._has_ended = self._is_closed = False
        self._error: Exception | None = None
        self._readable, self._announce = os.pipe()
        """Holds one byte while ``read`` would return at once."""
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
            except RuntimeError:  # no thread can be had
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
        except Exception as raised:  # noqa: BLE001 - it belongs to the request, not to this thread: ``read`` raises it
            error = raised
        except BaseException as raised:  # noqa: BLE001 - such as SystemExit, which must not end the thread of the request either
            error = RuntimeError(f"The generator of an answer raised {type(raised).__name__}.")
        try:
            self._close_chunks()
        except Exception as raised:  # noqa: BLE001 - as above
            error = error or raised
        with self._changed:
            self._has_ended, self._error = True, error
            self._announce_data()

    def _append(self, chunk: bytes) -> bool:
        """Hand a chunk to the reader, and wait while it has enough. Return whether it wants more."""
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
