"""Parsing an upstream's answer as its bytes arrive: llhttp takes head and framing apart, see RFC 9112."""

import httptools

from floway_core.errors import UpstreamBroken

LONGEST_HEAD = 128 * 1024
"""Bytes that may come in a row without any of the body: head, interim answers, trailers."""


class ResponseParser:
    """One answer, fed with what is read from a connection. Interim answers (100 to 199) before it are skipped."""

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is complete."""
        self.headers: list[tuple[str, str]] = []
        """Names in lower case, in the order received."""
        self.ended = False
        """Whether the whole body has been fed."""
        self.reusable = False
        """Whether the connection may be used again. Certain only when ``ended``."""
        self._body: list[bytes] = []
        self._barren = 0
        """Bytes since the last of the body."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_headers=True)  # odd characters in a value spoil no answer

    def feed(self, data: bytes) -> bytes:
        """The part of the body that is in ``data``.

        :param data: what was read; empty when the connection has ended.
        :raises UpstreamBroken: the connection ended early, or this is no HTTP.
        """
        if not data:
            self._end_of_connection()
            return b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise UpstreamBroken("The upstream switched to another protocol.") from None
        except httptools.HttpParserError:
            if not self.ended:
                raise UpstreamBroken("The upstream's answer is not valid HTTP.") from None
            self.reusable = False  # bytes behind the answer
        if self.ended:
            self._parser = None  # it refers back to this object
        if self._body:
            body, self._body, self._barren = self._body, [], 0
            return body[0] if len(body) == 1 else b"".join(body)
        self._barren += len(data)
        if self._barren > LONGEST_HEAD and not self.ended:
            raise UpstreamBroken("The head of the upstream's answer does not end.")
        return b""

    def _end_of_connection(self) -> None:
        if not self.status or self._has_an_end():
            raise UpstreamBroken("The upstream closed the connection in the middle of its answer.")
        self.ended, self._parser = True, None

    def _has_an_end(self) -> bool:
        """Whether the framing tells where the body ends, as opposed to the end of the connection."""
        headers = dict(self.headers)
        if "transfer-encoding" in headers:
            return headers["transfer-encoding"].lower().endswith("chunked")
        return "content-length" in headers

    # ------------------------------------------------------------------------------------------ called by the parser
    def on_message_begin(self) -> None:
        if self.ended:
            self.reusable = False  # bytes behind the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # later ones are trailers
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        if self.ended:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []
        else:
            self.status = status

    def on_body(self, data: bytes) -> None:
        if not self.ended:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self.status and not self.ended:
            self.ended, self.reusable = True, self._parser.should_keep_alive()
