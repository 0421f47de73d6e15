"""Reading a request body: its size limit, its compression, its JSON."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import zstandard
from flask import Request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

READ_SIZE = 64 * 1024
"""Bytes to read from the connection at a time."""

INFLATE_SIZE = 256 * 1024
"""Bytes to decompress at a time."""

ZSTD_INPUT_SIZE = 1024
"""Compressed bytes to decompress at a time: four of them may expand to 128 KiB."""

MAX_JSON_VALUES = 2_000_000
"""Limit for the values in a body. Each takes about 64 bytes of memory, even if it was sent in two."""


def read_object(request: Request, limit: int) -> tuple[dict[str, Any], bytes]:
    """Read the JSON object in the body of ``request``; return it, and the bytes that it was parsed from.

    :param limit: bytes that the body may have, both compressed and decompressed.
    :raises GatewayError: 400, 413 or 415.
    """
    data = _read(request, limit)
    for coding in reversed(_content_codings(request)):
        data = _decompress(coding, data, limit)
    if len(data) > MAX_JSON_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        message = f"The request body holds more than {MAX_JSON_VALUES} values."
        raise GatewayError(413, message, code="request_too_large")
    try:
        content = jsontext.loads(data)
    except ValueError as error:
        raise GatewayError(400, f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(content, dict):
        raise GatewayError(400, "The request body is not a JSON object.", code="invalid_json")
    return content, data


def _read(request: Request, limit: int) -> bytes:
    """Read the body as it was sent.

    :raises GatewayError: 400, 408 or 413.
    """
    length = request.content_length or 0
    if length > limit:
        raise _too_large(limit)
    cached: bytes | None = getattr(request, "_cached_data", None)  # Werkzeug's, if a plugin has called ``get_data``
    if cached is not None:
        return cached
    stream, chunks, size = get_input_stream(request.environ), [], 0
    try:
        while chunk := stream.read(READ_SIZE):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
    except BlockingIOError:  # the timeout of the server's socket
        raise GatewayError(408, "The request body did not arrive in time.", code="request_timeout") from None
    except (OSError, ClientDisconnected):
        raise _malformed() from None
    if size < length:
        raise _malformed()
    return b"".join(chunks)


def _content_codings(request: Request) -> list[str]:
    header = request.headers.get("content-encoding", "")
    return [coding for token in header.split(",") if (coding := token.strip().lower()) not in ("", "identity")]


def _decompress(coding: str, data: bytes, limit: int) -> bytes:
    decompressor = DECOMPRESSORS.get(coding)
    if decompressor is None:
        raise GatewayError(
            415,
            f"Content-encoding {coding[:40]!r} is not supported; gzip, deflate and zstd are.",
            code="unsupported_content_encoding",
        )
    chunks, size = [], 0
    try:
        for chunk in decompressor(data):
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise GatewayError(400, f"The request body is not valid {coding}.", code="invalid_content_encoding") from None
    return b"".join(chunks)


def _inflate(data: bytes, wbits: int, members: int) -> Iterator[bytes]:
    """Decompress in chunks, so that the caller can stop before a small body becomes a huge one.

    :param members: how many compressed streams may follow each other.
    :raises EOFError: ``data`` ends early or has too many members.
    """
    for _ in range(members):
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            chunk = stream.decompress(data, INFLATE_SIZE)
            if not chunk and not stream.eof and not stream.unconsumed_tail:
                raise EOFError
            data = stream.unconsumed_tail
            yield chunk
        data = stream.unused_data
        if not data:
            return
    raise EOFError  # each member copies all the data behind it


def _gzip(data: bytes) -> Iterator[bytes]:
    return _inflate(data, 31, members=100)


def _deflate(data: bytes) -> Iterator[bytes]:
    """Decompress the zlib format. Some clients leave out its header of two bytes."""
    has_header = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflate(data, 15 if has_header else -15, members=1)


def _zstd(data: bytes) -> Iterator[bytes]:
    stream = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
    for start in range(0, len(data), ZSTD_INPUT_SIZE):
        chunk = data[start : start + ZSTD_INPUT_SIZE]
        while chunk:
            if stream.eof:
                stream = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
            yield stream.decompress(chunk)
            chunk = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise EOFError


DECOMPRESSORS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def _too_large(limit: int) -> GatewayError:
    return GatewayError(413, f"The request body is larger than {limit} bytes.", code="request_too_large")


def _malformed() -> GatewayError:
    return GatewayError(400, "The request body ended early or is malformed.", code="invalid_body")
