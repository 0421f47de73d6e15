"""The body of an upstream's answer in another format, converted to the Responses API while it arrives."""

import time
from collections.abc import Callable
from typing import Protocol

from floway_core.contexts import ClientConnection
from floway_core.errors import GatewayError
from floway_core.provider import ResponseBody
from floway_core.upstream.body_splitter import BYTE_ORDER_MARK, BodySplitter
from floway_core.upstream.line_splitter import LineSplitter


class EventTranslator(Protocol):
    """Converts the events of one answer, without I/O. If a method raises, the response fails, and the log says why."""

    def feed(self, block: bytes) -> bytes:
        """Convert events.

        :param block: one or more complete events, perhaps with comments between them.
        :returns: the converted events; ``b""`` if there is nothing to send yet.
        """

    def end(self) -> bytes:
        """Return further events after the answer has ended. Not called if it breaks off."""


class TranslatedBody(ResponseBody):
    """Reads the events or the JSON document of another body, and returns their translation.

    ``read(0)`` reads all bytes that have arrived. If the inner body breaks off, the earlier bytes are returned first.
    """

    def __init__(
        self,
        inner: ResponseBody,
        translator: EventTranslator,
        convert_document: Callable[[bytes], bytes],
        *,
        json_lines: bool = False,
    ) -> None:
        """:param translator: converts events.
        :param convert_document: converts a complete body without events, such as a JSON response. It returns an unknown
            document unchanged, so that the gateway can find the reason of a failure in it.
        :param json_lines: whether the body has a JSON object in each line (NDJSON) instead of events. The translator
            gets each line as the data of an event, and there is no document.
        """
        self._inner = inner
        self._translator = translator
        self._convert_document = convert_document
        self._splitter: BodySplitter | LineSplitter = LineSplitter() if json_lines else BodySplitter()
        self._has_ended = False
        self._error: GatewayError | None = None
        """The error of the inner body; raised after the earlier bytes have been returned."""

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        deadline = time.monotonic() + timeout if timeout else 0.0
        output = b""
        while not self._has_ended:
            if self._error:
                raise self._error
            # If there is something to return, read only bytes that have already arrived.
            wait = max(0.0, deadline - time.monotonic()) if timeout and not output else 0.0
            try:
                data = self._inner.read(wait, client)
                if data is None:
                    return output or None
                output += self._take(data)
            except GatewayError as error:
                self._error = error
                if output:
                    break
        return output

    @property
    def has_ended(self) -> bool:
        """See ``ResponseBody.has_ended``."""
        return self._has_ended

    def _take(self, data: bytes) -> bytes:
        """Convert the events that ``data`` completes; ``b""`` is the end of the inner body."""
        if not data:
            self._has_ended = True
            return self._finish()
        events = self._splitter.feed(data)
        return self._translator.feed(events) if events else b""

    def _finish(self) -> bytes:
        if self._splitter.document is not None:
            return self._convert_document(bytes(self._splitter.document).removeprefix(BYTE_ORDER_MARK))
        last = self._splitter.last_event() or self._splitter.last_document()
        return (self._translator.feed(last) if last else b"") + self._translator.end()

    def fileno(self) -> int | None:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()
