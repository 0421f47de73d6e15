"""The log of the requests that the simulator received."""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import zstandard

JSON = Any
MAX_DEPTH = 200
"""The deepest nesting of a body, so that it can be serialised again."""


@dataclass
class RecordedRequest:
    """One request as it arrived, and a note on its response."""

    n: int
    """Position in the log, from 0."""
    at: float
    """Unix time in seconds."""
    method: str
    """WS-FRAME for a frame of a WebSocket."""
    path: str
    """With the query."""
    headers: list[tuple[str, str]]
    """In the order and case received."""
    raw: bytes
    """The bytes of the body as received."""
    body: JSON = None
    """The decoded JSON or form fields; None when absent or unreadable."""
    body_error: tuple[int, str] | None = None
    """Status and message for a body that is unreadable."""
    status: int | None = None
    """Of the response; None as long as there is none."""
    answered: str = ""
    """The note on the response."""
    whole: JSON = None
    """Of a frame: the body of the POST that it stands for, with the whole input."""
    posted: "RecordedRequest | None" = None
    """Of a frame: this POST."""
    client_gone: threading.Event = field(default_factory=threading.Event)
    """Set if the client disconnected before its response was complete."""
    done: threading.Event = field(default_factory=threading.Event)
    """Set when nothing more is sent."""

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case; None when absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def as_json(self) -> JSON:
        """What the control surface shows of it."""
        shown = ("n", "at", "method", "path", "headers", "body", "answered", "status")
        return {name: getattr(self, name) for name in shown} | {"client_gone": self.client_gone.is_set()}


class RequestLog:
    """The requests so far, in order of arrival; safe to use from several threads."""

    def __init__(self) -> None:
        self._requests: list[RecordedRequest] = []
        self._arrived = threading.Condition()

    def add(self, request: RecordedRequest) -> None:
        """Record a request, and notify waiting threads."""
        with self._arrived:
            request.n = len(self._requests)
            self._requests.append(request)
            self._arrived.notify_all()

    def all(self) -> list[RecordedRequest]:
        """A copy of the log."""
        with self._arrived:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._arrived:
            self._requests.clear()

    def wait_for(self, count: int, timeout: float) -> list[RecordedRequest]:
        """Wait until `count` requests are in the log; TimeoutError after `timeout` seconds."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._requests) >= count, timeout):
                raise TimeoutError(f"{len(self._requests)} of {count} requests arrived within {timeout} seconds")
            return list(self._requests)


def decode_request(method: str, path: str, headers: list[tuple[str, str]], raw: bytes) -> RecordedRequest:
    """A request from the network, with its body decoded."""
    request = RecordedRequest(0, time.time(), method, path, headers, raw)
    try:
        request.body = decode_body(request)
    except BodyError as error:
        request.body_error = error.status, str(error)
    return request


class BodyError(ValueError):
    """A body that cannot be read; `status` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def decode_body(request: RecordedRequest) -> JSON:
    """The request's body: JSON, plain or zstd, or form fields as a dict."""
    raw, encoding = request.raw, (request.header("content-encoding") or "identity").lower()
    if encoding not in ("identity", "zstd"):
        raise BodyError(415, f"Unsupported content-encoding: {encoding}")
    if not raw:
        return None
    if encoding == "zstd":
        raw = decompress(raw)
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BodyError(400, f"Invalid JSON body: {error}") from error
    if is_deeper(body, MAX_DEPTH):
        raise BodyError(400, f"Invalid JSON body: nested deeper than {MAX_DEPTH} levels")
    return body


def is_deeper(value: JSON, levels: int) -> bool:
    """Whether lists and objects are nested in more than `levels` levels."""
    level = [value]
    for _ in range(levels + 1):
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [part for parts in inner for part in parts]
    return bool(level)


def decompress(raw: bytes) -> bytes:
    """One zstd frame, with or without its content size (the CLI's frames have none)."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        data = frame.decompress(raw)
    except zstandard.ZstdError as error:
        raise BodyError(400, f"Invalid zstd body: {error}") from error
    if not frame.eof:
        raise BodyError(400, "Invalid zstd body: the frame is cut off")
    return data
