"""Content encodings of request bodies."""

import functools
from urllib.parse import urlsplit

import zstandard

AUTO, IDENTITY, ZSTD = "auto", "identity", "zstd"

LEVEL = 3
OFFICIAL_HOST = "chatgpt.com"


@functools.cache
def choose_encoding(setting: str, base_url: str) -> str:
    """The encoding for a backend. ``auto`` means as in the CLI, which compresses for the official host only."""
    if setting != AUTO:
        return setting
    return ZSTD if urlsplit(base_url).hostname == OFFICIAL_HOST else IDENTITY


def encode_body(body: bytes, encoding: str) -> bytes:
    """Encode ``body``.

    zstd as the CLI writes it: one streaming frame without content size and checksum.
    """
    if encoding == IDENTITY:
        return body
    frame = zstandard.ZstdCompressor(level=LEVEL).compressobj()
    return frame.compress(body) + frame.flush()
