"""A plain HTTP client for tests: it sends any request, reads a stream piece by piece, and can disconnect early."""

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from floway_core.testing import events

TIMEOUT_SECONDS = 60.0
"""Time to wait for bytes; only a failing test waits as long."""


class ApiResponse:
    """The response to one request, as far as it has been read."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response: http.client.HTTPResponse | None = None
        self._received = b""

    @property
    def status(self) -> int:
        """HTTP status; reading it waits for the head."""
        return self._head().status

    @property
    def headers(self) -> http.client.HTTPMessage:
        """Response headers; names are case-insensitive."""
        return self._head().headers

    @property
    def received(self) -> bytes:
        """The part of the body that has been read so far."""
        return self._received

    @property
    def has_started(self) -> bool:
        """Whether the head of the response has been read."""
        return self._response is not None

    def read_until(self, marker: bytes) -> bytes:
        """Read until ``marker`` has been received.

        :returns: all bytes of the body so far.
        :raises EOFError: the response ended before.
        """
        while marker not in self._received:
            piece = self._head().read1(64 * 1024)
            if not piece:
                raise EOFError(f"{marker!r} is not in {self._received!r}")
            self._received += piece
        return self._received

    def read_more(self) -> bytes:
        """Wait for the next bytes.

        :returns: all bytes of the body so far.
        :raises EOFError: the response has ended.
        """
        piece = self._head().read1(64 * 1024)
        if not piece:
            raise EOFError(f"The response has ended: {self._received!r}")
        self._received += piece
        return self._received

    @property
    def body(self) -> bytes:
        """The whole body; reading it waits for its end."""
        while piece := self._head().read(64 * 1024):
            self._received += piece
        self._connection.close()
        return self._received

    def json(self) -> Any:
        """The whole body, parsed."""
        return json.loads(self.body)

    def events(self) -> list[dict[str, Any]]:
        """The data of all events of the whole body."""
        return events.parse(self.body)

    def hang_up(self) -> None:
        """Close the connection at once."""
        if self._connection.sock:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        if self._response:
            self._response.close()
        self._connection.close()

    def _head(self) -> http.client.HTTPResponse:
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response


class ApiClient:
    """A client of a gateway."""

    def __init__(self, url: str, key: str, headers: Mapping[str, str] | None = None) -> None:
        """:param url: base URL of the gateway.
        :param key: API key.
        :param headers: further headers of every request.
        """
        self.headers = {"authorization": f"Bearer {key}", **(headers or {})}
        self.exchanges: list[ApiResponse] = []
        self._address = urlsplit(url).netloc

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str | None] = {},
    ) -> ApiResponse:
        """Send a request, without waiting for the response.

        :param body: bytes, or pieces to be sent as chunks.
        :param headers: in addition to those of every request; None removes one of those.
        """
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        merged = {name: value for name, value in {**self.headers, **headers}.items() if value is not None}
        connection.request(method, path, body, merged)
        self.exchanges.append(ApiResponse(connection))
        return self.exchanges[-1]

    def get(self, path: str, **headers: str | None) -> ApiResponse:
        """Send a GET request. Underscores in names of ``headers`` become hyphens."""
        return self.send("GET", path, headers=_with_hyphens(headers))

    def post(self, body: Any, path: str = "/v1/responses", **headers: str | None) -> ApiResponse:
        """Send a POST request.

        :param body: bytes, or a value to be sent as JSON.
        :param headers: underscores in names become hyphens.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, content, {"content-type": "application/json", **_with_hyphens(headers)})

    def create(self, input: Any = "Hi", *, model: str = "model-1", **fields: Any) -> ApiResponse:
        """Request a response.

        :param fields: further fields of the request body.
        """
        return self.post({"model": model, "input": input, **fields})

    def stream(self, input: Any = "Hi", **fields: Any) -> ApiResponse:
        """Request a response as a stream of events."""
        return self.create(input, stream=True, **fields)


def _with_hyphens(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
