"""Encode items and envelopes for the database: JSON, compressed if that saves enough."""

import threading
from typing import Any

import zstandard

from floway_core.conversation.input_limit import InputLimit
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

PLAIN, ZSTD = b"j", b"z"
"""The first byte of a payload: the encoding of the rest."""

MIN_COMPRESSED_SIZE = 512
"""Bytes. Compressing smaller payloads saves too little for the time it takes."""

MAX_PAYLOAD_SIZE = 512 * 2**20
"""Bytes after decompression, so that a damaged row cannot fill the memory."""

SIZE_PREFIX = 19
"""Bytes at the start of a payload that contain the size of its text: the encoding and the longest header of zstd."""

MAX_ID_LENGTH = 255
"""Characters."""


class StoredDataError(GatewayError):
    """A stored value is damaged. The message names the column and the row."""

    def __init__(self, column: str, row: object) -> None:
        super().__init__(500, f"Stored data is damaged: {column} of row {row}.", code="stored_data_invalid")


# Shared: creating a compressor takes longer than using it, and one per thread would take memory. It is not thread-safe.
_COMPRESSOR = zstandard.ZstdCompressor()
_COMPRESSOR_LOCK = threading.Lock()


def encode(value: dict[str, Any]) -> bytes:
    """Encode ``value`` for a payload column."""
    return encode_text(jsontext.dumps(value))


def encode_text(plain: bytes) -> bytes:
    """Encode a JSON text for a payload column."""
    if len(plain) >= MIN_COMPRESSED_SIZE:
        compressed = _compress(plain)
        if len(compressed) < len(plain) * 0.9:
            return ZSTD + compressed
    return PLAIN + plain


def _compress(plain: bytes) -> bytes:
    with _COMPRESSOR_LOCK:
        return _COMPRESSOR.compress(plain)


class Decoder:
    """Decodes payloads of one column. Not thread-safe. Reuse it for many payloads, because creating one is slow."""

    def __init__(self, column: str, limit: InputLimit | None = None) -> None:
        """:param limit: counts the decoded bytes."""
        self._column = column
        self._limit = limit
        self._zstd = zstandard.ZstdDecompressor()

    def __call__(self, payload: bytes, row: object) -> dict[str, Any]:
        """Return the object in ``payload``.

        :raises StoredDataError: ``encode`` has not created it.
        """
        return parse_object(self.text(payload, row), self._column, row)

    def text(self, payload: bytes, row: object) -> bytes:
        """Return the text in ``payload``, without checking that it is JSON.

        :raises StoredDataError: ``encode`` has not created it.
        :raises GatewayError: 400, with this payload the limit is exceeded.
        """
        # SQLite does not enforce column types.
        payload = bytes(payload) if isinstance(payload, (bytes, memoryview)) else b""
        if self._limit:
            self._limit.add(plain_size(payload[:SIZE_PREFIX], len(payload)))
        if payload[:1] == PLAIN:
            return payload[1:]
        if payload[:1] == ZSTD:
            try:
                if zstandard.frame_content_size(payload[1:]) <= MAX_PAYLOAD_SIZE:
                    return self._zstd.decompress(payload[1:], max_output_size=MAX_PAYLOAD_SIZE)
            except zstandard.ZstdError:
                pass
        raise StoredDataError(self._column, row)


def plain_size(beginning: object, length: int | None) -> int:
    """Return the bytes of the text in a payload; 0 if the payload is damaged.

    :param beginning: at least its first ``SIZE_PREFIX`` bytes.
    :param length: bytes of the whole payload.
    """
    prefix = bytes(beginning) if isinstance(beginning, (bytes, memoryview)) else b""
    if prefix[:1] != ZSTD:
        return max(0, (length or 0) - 1)
    try:
        return max(0, zstandard.frame_content_size(prefix[1:SIZE_PREFIX]))
    except zstandard.ZstdError:
        return 0


def parse_object(text: bytes | str, column: str, row: object) -> dict[str, Any]:
    """Parse a JSON object of a column.

    :raises StoredDataError: the text is not a JSON object.
    """
    try:
        value = jsontext.loads(text.encode() if isinstance(text, str) else text)
    except (TypeError, ValueError):  # TypeError: SQLite does not enforce column types
        value = None
    if not isinstance(value, dict):
        raise StoredDataError(column, row)
    return value


def storable_id(value: object) -> str | None:
    """Return ``value`` if it is an id that a text column can store, else None.

    PostgreSQL stores no NUL, and no database stores lone surrogates.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value
