"""The body of an upstream's answer in another format, converted to the Responses API while it arrives."""

import time
from collections.abc import Callable

from floway_core.contexts import ClientConnection
from floway_core.dialect import Translator
from floway_core.errors import GatewayError, UpstreamBroken
from floway_core.protocol import jsontext, sse
from floway_core.provider import ResponseBody

MAX_BYTES = 64 * 2**20
"""Limit for one event and for one JSON document."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TranslatedBody(ResponseBody):
    """Reads the events or the JSON document of another body, and returns what they become.

    What the body holds is told by its first bytes, because upstreams answer a request for a stream with a document, and
    the other way round. ``read(0)`` takes all that has arrived. When the inner body breaks off, what came before is
    returned first.
    """

    def __init__(self, inner: ResponseBody, translator: Translator, convert_document: Callable[[bytes], bytes]) -> None:
        """:param translator: converts events.
        :param convert_document: converts a complete body that holds no events, such as a JSON response. What it does
            not know it returns as it is, so that the gateway can find the reason of a failure in it.
        """
        self._inner = inner
        self._translator = translator
        self._convert_document = convert_document
        self._splitter = sse.EventSplitter(MAX_BYTES)
        self._has_begun = self._has_ended = False
        self._document: bytearray | None = None
        self._error: GatewayError | None = None
        """Why the inner body broke off; raised after what came before has been returned."""

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        deadline = time.monotonic() + timeout if timeout else 0.0
        translated = b""
        while not self._has_ended:
            if self._error:
                raise self._error
            # With something to return, take only what has arrived already.
            wait = max(0.0, deadline - time.monotonic()) if timeout and not translated else 0.0
            try:
                data = self._inner.read(wait, client)
                if data is None:
                    return translated or None
                translated += self._take(data)
            except GatewayError as error:
                self._error = error
                if translated:
                    break
        return translated

    def _take(self, data: bytes) -> bytes:
        """Convert what ``data`` completes; ``b""`` is the end of the inner body."""
        if not data:
            self._has_ended = True
            return self._finish()
        if not self._has_begun:
            self._detect_format(data)
        if self._document is not None:
            self._document += data
            if len(self._document) > MAX_BYTES:
                raise UpstreamBroken(f"The upstream's response is longer than {MAX_BYTES} bytes.")
            return b""
        try:
            events = self._splitter.feed(data).removeprefix(BYTE_ORDER_MARK)
        except ValueError as error:
            raise UpstreamBroken(f"The upstream's stream is unreadable: {error}.") from None
        return self._translator.feed(events) if events else b""

    def _detect_format(self, data: bytes) -> None:
        first = data.removeprefix(BYTE_ORDER_MARK).lstrip()
        if first:
            self._has_begun = True
            if first[:1] in b"{[<":
                self._document = bytearray()

    def _finish(self) -> bytes:
        if self._document is not None:
            return self._convert_document(bytes(self._document).removeprefix(BYTE_ORDER_MARK))
        rest = self._splitter.rest.removeprefix(BYTE_ORDER_MARK)
        last = self._translator.feed(rest + b"\n\n") if _is_complete(rest) else b""
        return last + self._translator.end()

    def fileno(self) -> int | None:
        return self._inner.fileno()

    def close(self) -> None:
        self._inner.close()


def _is_complete(rest: bytes) -> bool:
    """Return whether the end of a body is an event that lacks only its empty line, or JSON that is no event: some
    upstreams send an error so."""
    data = sse.parse(rest)[1] or rest
    if data.strip() == b"[DONE]":
        return True
    try:
        return isinstance(jsontext.loads(data), dict)
    except ValueError:
        return False
