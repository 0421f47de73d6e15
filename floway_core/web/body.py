"""Read a request body: check its size, decompress and parse it, and reserve the memory for all of this."""

import io
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import zstandard
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_content_length, get_input_stream

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.runtime.memory import VALUE_BYTES, VALUE_SIZE, Reservation, count_values, text_width
from floway_core.web.gateway_request import GatewayRequest

READ_SIZE = 64 * 1024
"""Bytes to read from the connection at a time."""

INFLATE_SIZE = 256 * 1024
"""Bytes to decompress at a time."""

INPUT_SIZE = 1024
"""Compressed bytes to decompress at a time. The decoders copy the remaining bytes after each step, and four bytes
may expand to 128 KiB with zstd."""

MAX_CODINGS = 2
"""How often a body may be compressed."""

MAX_MEMBERS = 100
"""The largest number of concatenated compressed streams. Each one needs a new decoder."""

MAX_JSON_VALUES = 2_000_000
"""Limit for the values in a body."""

PARSED_COPIES = 2
"""Copies of the parsed body in a request: the original, and one that plugins may change."""

MAX_PARSED_SHARE = 8 * 40
"""What a body may be of the budget to be parsed before memory is reserved for its values. Counting these in the text
takes three times as long as parsing it. Values need at most 40 times the bytes of their text, so an eighth of the
budget."""

MANY_VALUES = 50_000
"""From this number on, values are counted in the text, by kind: lists of numbers are much smaller than other values."""

_parsing = threading.Lock()
"""Only one body at a time is parsed without a reservation."""


class JsonBody(NamedTuple):
    """A request body."""

    content: dict[str, Any]
    raw: bytes
    """Its JSON text, after decompression."""


def read_object(request: GatewayRequest, limit: int) -> JsonBody:
    """Read the JSON object in the body of ``request``.

    Its memory is reserved in the budget of the gateway until the request has ended.

    :param limit: bytes that the body may have, both compressed and decompressed.
    :raises GatewayError: 400, 413, 415, or 503 if too many requests with large bodies run.
    """
    data, memory = read_content(request, limit)
    return JsonBody(parse_object(data, memory), data)


def read_content(request: GatewayRequest, limit: int) -> tuple[bytes, Reservation]:
    """Read the body of ``request``, and decompress it.

    :returns: the body, and its memory, which is reserved until the request has ended.
    :raises GatewayError: as ``read_object``.
    """
    memory = request.memory
    codings = _content_codings(request)
    data = _read(request, limit, memory)
    for coding in reversed(codings):
        data = _decompress(coding, data, limit, memory)
    return data, memory


def parse_object(data: bytes, memory: Reservation) -> dict[str, Any]:
    """Parse the JSON object in a body.

    :param memory: the reservation of the body. The memory of the values is added to it.
    :raises GatewayError: 400, 413 or 503.
    """
    if len(data) <= memory.limit // MAX_PARSED_SHARE:
        with _parsing:
            content, size = _loads(data)
            is_usual = size.values <= MANY_VALUES
            _reserve_values(data, size.values * VALUE_SIZE if is_usual else _measure_text(data), memory)
    else:
        _reserve_values(data, _measure_text(data), memory)
        content, _ = _loads(data)
    if not isinstance(content, dict):
        raise GatewayError(400, "The request body is not a JSON object.", code="invalid_json")
    return content


def _loads(data: bytes) -> tuple[Any, jsontext.Size]:
    """:raises GatewayError: 400."""
    try:
        return jsontext.loads_measured(data)
    except ValueError as error:
        raise GatewayError(400, f"The request body is not valid JSON: {error}.", code="invalid_json") from None


def _measure_text(data: bytes) -> int:
    """Return how much memory the values of a JSON text will need, apart from their texts.

    :raises GatewayError: 413, they are too many.
    """
    values = count_values(data)
    if sum(values.values()) - values[b":"] > MAX_JSON_VALUES:
        message = f"The request body contains more than {MAX_JSON_VALUES} values."
        raise GatewayError(413, message, code="request_too_large")
    return sum(count * VALUE_BYTES[character] for character, count in values.items())


def _reserve_values(data: bytes, size: int, memory: Reservation) -> None:
    """Reserve the memory for the values of a JSON text, and for the text that goes to the upstream.

    :param size: memory of the values apart from their texts.
    :raises GatewayError: 413 or 503.
    """
    memory.add(PARSED_COPIES * (size + text_width(data) * len(data)) + len(data))


def _read(request: GatewayRequest, limit: int, memory: Reservation) -> bytes:
    """Read the body without decompressing it.

    :raises GatewayError: 400, 408, 413 or 503.
    """
    length = get_content_length(request.environ) or 0
    if length > limit:
        raise _too_large(limit)
    cached: bytes | None = getattr(request, "_cached_data", None)  # Werkzeug's, if a plugin has called ``get_data``
    if cached is not None:
        memory.add(len(cached))
        return cached
    stream, content = get_input_stream(request.environ), io.BytesIO()
    try:
        while chunk := stream.read(_read_size(length - content.tell())):
            if content.tell() + len(chunk) > limit:
                raise _too_large(limit)
            memory.add(len(chunk))
            content.write(chunk)
            if content.tell() == length:
                break  # without a further read, to see the end
    except BlockingIOError:  # the timeout of the server's socket
        raise GatewayError(408, "The request body did not arrive in time.", code="request_timeout") from None
    except (OSError, ClientDisconnected):
        raise _malformed() from None
    if content.tell() < length:
        raise _malformed()
    return content.getvalue()


def _read_size(remaining: int) -> int:
    """Return how many bytes to read. The file allocates as many at once, so not more than are expected.

    :param remaining: bytes that the length of the body announces, not more than 0 if it is unknown or all are there.
    """
    return min(READ_SIZE, remaining) if remaining > 0 else READ_SIZE


def _content_codings(request: GatewayRequest) -> list[str]:
    """Return the codings of the body, in the order in which they were applied.

    :raises GatewayError: 415, one is not supported or there are too many.
    """
    header = request.environ.get("HTTP_CONTENT_ENCODING", "")
    if not header:
        return []
    codings = [coding for token in header.split(",") if (coding := token.strip().lower()) not in ("", "identity")]
    unknown = next((coding for coding in codings if coding not in DECOMPRESSORS), None)
    if unknown is not None or len(codings) > MAX_CODINGS:
        message = f"Content-encoding {(unknown or header)[:40]!r} is not supported; gzip, deflate and zstd are"
        raise GatewayError(
            415, f"{message}, at most {MAX_CODINGS} of them in one request.", code="unsupported_content_encoding"
        )
    return codings


def _decompress(coding: str, data: bytes, limit: int, memory: Reservation) -> bytes:
    """:raises GatewayError: 400, 413 or 503."""
    content, reserved = io.BytesIO(), 0
    try:
        for chunk in DECOMPRESSORS[coding](data):
            if content.tell() + len(chunk) > limit:
                raise _too_large(limit)
            memory.add(2 * len(chunk))  # the decoder keeps its recent output
            reserved += 2 * len(chunk)
            content.write(chunk)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise GatewayError(400, f"The request body is not valid {coding}.", code="invalid_content_encoding") from None
    memory.remove(len(data) + reserved // 2)
    return content.getvalue()


def _slices(data: bytes) -> Iterator[bytes]:
    return (data[start : start + INPUT_SIZE] for start in range(0, len(data), INPUT_SIZE))


def _inflate(data: bytes, wbits: int, members: int) -> Iterator[bytes]:
    """Decompress in chunks, so that the caller can stop before a small body becomes a huge one.

    :param members: the largest number of concatenated compressed streams.
    :raises EOFError: ``data`` ends early or has too many members.
    """
    stream = zlib.decompressobj(wbits)
    for piece in _slices(data):
        while piece:
            if stream.eof:
                members -= 1
                if not members:
                    raise EOFError
                stream = zlib.decompressobj(wbits)
            yield stream.decompress(piece, INFLATE_SIZE)
            piece = stream.unused_data if stream.eof else stream.unconsumed_tail
    while not stream.eof:
        chunk = stream.decompress(b"", INFLATE_SIZE)
        if not chunk and not stream.eof:
            raise EOFError
        yield chunk


def _gzip(data: bytes) -> Iterator[bytes]:
    return _inflate(data, 31, MAX_MEMBERS)


def _deflate(data: bytes) -> Iterator[bytes]:
    """Decompress the zlib format. Some clients omit its header of two bytes."""
    has_header = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflate(data, 15 if has_header else -15, members=1)


def _zstd(data: bytes) -> Iterator[bytes]:
    """:raises EOFError: ``data`` ends early or has too many frames."""
    decompressor, frames = zstandard.ZstdDecompressor(max_window_size=2**27), 1
    stream = decompressor.decompressobj()
    for chunk in _slices(data):
        while chunk:
            if stream.eof:
                frames += 1
                if frames > MAX_MEMBERS:
                    raise EOFError
                stream = decompressor.decompressobj()
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
