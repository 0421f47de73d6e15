"""Reading a request body: its size, its compression, its JSON."""

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
"""Bytes of a body that are read at a time."""

CHUNK = 256 * 1024

MOST_VALUES = 2_000_000
"""JSON values in a body. Each takes some 64 bytes in memory, even if it was sent in two."""


def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object that ``request`` carries.

    :param limit: bytes that the body may have, as sent and after decompression.
    :raises GatewayError: 400, 413 or 415.
    """
    data = _sent(request, limit)
    for coding in reversed(_codings(request)):
        data = _decoded(coding, data, limit)
    if len(data) > MOST_VALUES and sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        message = f"The request body holds more than {MOST_VALUES} values."
        raise GatewayError(413, message, code="request_too_large")
    try:
        content = jsontext.loads(data)
    except ValueError as error:
        raise GatewayError(400, f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(content, dict):
        raise GatewayError(400, "The request body is not a JSON object.", code="invalid_json")
    return content


def _sent(request: Request, limit: int) -> bytes:
    """The body as it was sent."""
    length = request.content_length or 0
    if length > limit:
        raise _too_large(limit)
    known = getattr(request, "_cached_data", None)  # by a plugin that has looked at it before
    if known is not None:
        return known
    stream, pieces, size = get_input_stream(request.environ), [], 0
    try:
        while piece := stream.read(READ_SIZE):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
    except BlockingIOError:  # how the timeout of the server's socket shows
        raise GatewayError(408, "The request body did not arrive in time.", code="request_timeout") from None
    except (OSError, ClientDisconnected):
        raise _broken() from None
    if size < length:
        raise _broken()
    return b"".join(pieces)


def _codings(request: Request) -> list[str]:
    named = request.headers.get("content-encoding", "")
    return [coding for word in named.split(",") if (coding := word.strip().lower()) not in ("", "identity")]


def _decoded(coding: str, data: bytes, limit: int) -> bytes:
    decoder = DECODERS.get(coding)
    if decoder is None:
        raise GatewayError(
            415,
            f"Content-encoding {coding[:40]!r} is not supported; gzip, deflate and zstd are.",
            code="unsupported_content_encoding",
        )
    pieces, size = [], 0
    try:
        for piece in decoder(data):
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise GatewayError(400, f"The request body is not valid {coding}.", code="invalid_content_encoding") from None
    return b"".join(pieces)


def _inflate(data: bytes, wbits: int, members: int) -> Iterator[bytes]:
    """zlib, piece by piece, so that a small body cannot become a huge one unseen.

    :param members: how many compressed streams may follow each other.
    """
    for _ in range(members):
        stream = zlib.decompressobj(wbits)
        while not stream.eof:
            piece = stream.decompress(data, CHUNK)
            if not piece and not stream.eof and not stream.unconsumed_tail:
                raise EOFError
            data = stream.unconsumed_tail
            yield piece
        data = stream.unused_data
        if not data:
            return
    raise EOFError  # each member costs a copy of all that follow


def _gzip(data: bytes) -> Iterator[bytes]:
    return _inflate(data, 31, members=100)


def _deflate(data: bytes) -> Iterator[bytes]:
    """ "deflate" means the zlib format; some clients leave its two bytes of header out."""
    wrapped = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflate(data, 15 if wrapped else -15, members=1)


def _zstd(data: bytes) -> Iterator[bytes]:
    """zstd, fed in small pieces: a block of four bytes may unpack to 128 KiB."""
    stream = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
    for at in range(0, len(data), 1024):
        piece = data[at : at + 1024]
        while piece:
            if stream.eof:
                stream = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
            yield stream.decompress(piece)
            piece = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise EOFError


DECODERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def _too_large(limit: int) -> GatewayError:
    return GatewayError(413, f"The request body is larger than {limit} bytes.", code="request_too_large")


def _broken() -> GatewayError:
    return GatewayError(400, "The request body ended early or is malformed.", code="invalid_body")
