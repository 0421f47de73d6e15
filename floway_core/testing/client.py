"""A bare HTTP client: it sends what it is given, reads a stream piece by piece and hangs up when told to."""

import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from floway_core.testing import events

PATIENCE = 20.0
"""Seconds after which waiting for bytes is given up; only a failing test waits as long."""


class ApiResponse:
    """One request that has been sent, and its answer as far as it was read."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response: http.client.HTTPResponse | None = None
        self._received = b""

    @property
    def status(self) -> int:
        return self._head().status

    @property
    def headers(self) -> http.client.HTTPMessage:
        """The headers of the answer; names are found in any spelling."""
        return self._head().headers

    @property
    def received(self) -> bytes:
        """The part of the body that was read so far."""
        return self._received

    @property
    def begun(self) -> bool:
        """Whether the head of the answer was read."""
        return self._response is not None

    def read_until(self, marker: bytes) -> bytes:
        """Read on until ``marker`` is among the bytes received, and return all of them.

        :raises EOFError: the answer ended before.
        """
        while marker not in self._received:
            piece = self._head().read1(64 * 1024)
            if not piece:
                raise EOFError(f"{marker!r} is not in {self._received!r}")
            self._received += piece
        return self._received

    @property
    def body(self) -> bytes:
        """The whole body, once it has ended."""
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
        """Close the connection, whatever is still to come."""
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
    """A client of the gateway at ``url``. ``headers`` go with every request."""

    def __init__(self, url: str, key: str, headers: Mapping[str, str] | None = None) -> None:
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
        """Send a request; do not wait for its answer.

        :param body: bytes, or pieces that are sent chunked.
        :param headers: beside those of every request; None leaves one of them out.
        """
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        merged = {name: value for name, value in {**self.headers, **headers}.items() if value is not None}
        connection.request(method, path, body, merged)
        self.exchanges.append(ApiResponse(connection))
        return self.exchanges[-1]

    def get(self, path: str, **headers: str | None) -> ApiResponse:
        """Send a GET. Underscores in the names of headers stand for hyphens."""
        return self.send("GET", path, headers=_spelled(headers))

    def post(self, body: Any, path: str = "/v1/responses", **headers: str | None) -> ApiResponse:
        """Send a POST with ``body`` as JSON, or as it is if it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", path, content, {"content-type": "application/json", **_spelled(headers)})

    def create(self, input: Any = "Hi", *, model: str = "model-1", **fields: Any) -> ApiResponse:
        """Ask for a response."""
        return self.post({"model": model, "input": input, **fields})

    def stream(self, input: Any = "Hi", **fields: Any) -> ApiResponse:
        """Ask for a response as a stream of events."""
        return self.create(input, stream=True, **fields)


def _spelled(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
