"""Parse an upstream's response while its bytes arrive. llhttp parses head and framing: RFC 9112."""

import httptools

from floway_core.errors import UpstreamBroken

MAX_HEAD_BYTES = 128 * 1024
"""Consecutive bytes that are not part of the body: head, interim responses, trailers."""


class ResponseParser:
    """Parses one response from the bytes of a connection. Interim responses (100 to 199) before it are skipped."""

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is complete."""
        self.headers: list[tuple[str, str]] = []
        """Names in lower case, in the order received."""
        self.ended = False
        """Whether the whole body has been fed."""
        self.reusable = False
        """Whether the connection may be used again. Certain only when ``ended``."""
        self.is_broken = False
        """Whether what follows the body so far is not valid HTTP."""
        self._pieces: list[bytes] = []
        """The pieces of the body since the last call of ``feed``."""
        self.on_body = self._pieces.append
        """Called by httptools with each piece of the body, of which a body of chunks has many."""
        self._bytes_without_body = 0
        """Bytes since the last byte of the body."""
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(lenient_headers=True)  # accept odd characters in header values
        self._parser: httptools.HttpResponseParser | None = parser
        """None after the end, because it refers back to this object."""

    def feed(self, data: bytes) -> bytes:
        """Parse the next bytes of the connection.

        :param data: ``b""`` when the connection has ended.
        :returns: the part of the body that is in ``data``.
        :raises UpstreamBroken: the connection ended early, or the response is not valid HTTP. The part of the body
            before that is returned first.
        """
        if self.is_broken:
            raise _invalid()
        if not data:
            self._end_connection()
            return b""
        parser = self._parser
        if parser is None:
            raise ValueError("the response has ended")
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise UpstreamBroken("The upstream switched to another protocol.") from None
        except httptools.HttpParserError:
            self.is_broken = not self.ended
            self.reusable = False  # if it has ended: bytes after the response
        if self.ended:
            self._parser = None
        if pieces := self._pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._bytes_without_body = 0
            return body
        if self.is_broken:
            raise _invalid()
        self._bytes_without_body += len(data)
        if self._bytes_without_body > MAX_HEAD_BYTES and not self.ended:
            raise UpstreamBroken("The head of the upstream's answer does not end.")
        return b""

    def close(self) -> None:
        """Stop parsing."""
        self._parser = None

    def _end_connection(self) -> None:
        if not self.status or self._states_length():
            raise UpstreamBroken("The upstream closed the connection in the middle of its answer.")
        self.ended, self._parser = True, None

    def _states_length(self) -> bool:
        """Return whether the framing states where the body ends. If not, it ends with the connection."""
        headers = dict(self.headers)
        if "transfer-encoding" in headers:
            return headers["transfer-encoding"].lower().endswith("chunked")
        return "content-length" in headers

    # ------------------------------------------------------------------------------------------ called by the parser
    def on_message_begin(self) -> None:
        """Called by httptools: a response begins."""
        if self.ended:
            self.reusable = False  # bytes after the response

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each header, and for each trailer."""
        if not self.status:  # later ones are trailers
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        """Called by httptools: the head is complete."""
        if self.ended:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []
        else:
            self.status = status

    def on_message_complete(self) -> None:
        """Called by httptools: the response is complete."""
        if self.status and not self.ended:
            assert self._parser is not None
            self.ended, self.reusable = True, self._parser.should_keep_alive()
            self._pieces = self._pieces.copy()  # what follows is not of this body; it is added to the old list


def _invalid() -> UpstreamBroken:
    return UpstreamBroken("The upstream's answer is not valid HTTP.")
