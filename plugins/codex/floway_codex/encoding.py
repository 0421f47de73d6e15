"""Encoding request bodies."""

import zstandard

IDENTITY, ZSTD = "identity", "zstd"

LEVEL = 3


def encoded(body: bytes, encoding: str) -> bytes:
    """``body`` in one of the encodings.

    zstd as the CLI writes it: one streaming frame without content size and checksum.
    """
    if encoding == IDENTITY:
        return body
    frame = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    return frame.compress(body) + frame.flush()
