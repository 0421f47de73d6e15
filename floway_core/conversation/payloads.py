"""How items and envelopes are kept in a row: JSON, compressed when that pays."""

import threading
from typing import Any

import zstandard

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

PLAIN, ZSTD = b"j", b"z"
"""The first byte of a payload says how the rest is to be read."""

WORTH_COMPRESSING = 512
"""Bytes. Below this the gain is too small for the time it takes."""

LARGEST = 512 * 2**20
"""Bytes that a payload may unpack to: a damaged row must not fill the memory."""

LONGEST_ID = 255
"""Characters."""


class StoredDataError(GatewayError):
    """A row does not hold what it should. The message names the column and the row."""

    def __init__(self, column: str, row: object) -> None:
        super().__init__(500, f"Stored data is damaged: {column} of row {row}.", code="stored_data_invalid")


# Making one takes longer than using it, and one of each thread's own would take memory; but it is for one at a time.
_COMPRESSOR = zstandard.ZstdCompressor()
_COMPRESSING = threading.Lock()


def encode(value: dict[str, Any]) -> bytes:
    """``value`` as the content of a payload column."""
    return encode_text(jsontext.dumps(value))


def encode_text(plain: bytes) -> bytes:
    """JSON as the content of a payload column."""
    if len(plain) >= WORTH_COMPRESSING:
        packed = _compress(plain)
        if len(packed) < len(plain) * 0.9:
            return ZSTD + packed
    return PLAIN + plain


def _compress(plain: bytes) -> bytes:
    with _COMPRESSING:
        return _COMPRESSOR.compress(plain)


class Decoder:
    """Reads the payloads of one column. Not for several threads; for many payloads, because making it takes a while."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._zstd = zstandard.ZstdDecompressor()

    def __call__(self, payload: bytes, row: object) -> dict[str, Any]:
        """The object that ``encode`` made ``payload`` of.

        :raises StoredDataError: it was not made by ``encode``.
        """
        return parsed_object(self.text(payload, row), self._column, row)

    def text(self, payload: bytes, row: object) -> bytes:
        """The JSON in ``payload``; whether it is any has not been looked at.

        :raises StoredDataError: it was not made by ``encode``.
        """
        # SQLite holds no column to its type.
        payload = bytes(payload) if isinstance(payload, (bytes, memoryview)) else b""
        if payload[:1] == PLAIN:
            return payload[1:]
        if payload[:1] == ZSTD:
            try:
                if zstandard.frame_content_size(payload[1:]) <= LARGEST:
                    return self._zstd.decompress(payload[1:], max_output_size=LARGEST)
            except zstandard.ZstdError:
                pass
        raise StoredDataError(self._column, row)


def parsed_object(text: bytes | str, column: str, row: object) -> dict[str, Any]:
    """A JSON object from a column.

    :raises StoredDataError: it is something else.
    """
    try:
        value = jsontext.loads(text.encode() if isinstance(text, str) else text)
    except (TypeError, ValueError):  # TypeError: SQLite holds no column to its type
        value = None
    if not isinstance(value, dict):
        raise StoredDataError(column, row)
    return value


def column_id(given: object) -> str | None:
    """An id as a text column can hold it, or None when none can: PostgreSQL takes no NUL, nobody lone surrogates."""
    if not isinstance(given, str) or not 0 < len(given) <= LONGEST_ID or "\0" in given:
        return None
    try:
        given.encode()
    except UnicodeEncodeError:
        return None
    return given
