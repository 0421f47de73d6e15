"""Decompression of an upstream's answer: the codings that a provider may name in ``accept-encoding``."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import zstandard

from floway_core.contexts import ClientConnection
from floway_core.errors import UpstreamBroken
from floway_core.provider import ResponseBody
from floway_core.upstream.body_splitter import MAX_BYTES

MAX_ZSTD_WINDOW = 2**23
"""Bytes; no encoder uses more in HTTP: RFC 9659."""

SLICE_BYTES = 1024
"""Compressed bytes that are decompressed at once. Each may become thousands, with zstd 32,768."""


class _Decoder(Protocol):
    """A decoder of the libraries, for one compressed stream."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _inflate() -> _Decoder:
    return zlib.decompressobj(32 + zlib.MAX_WBITS)  # recognises gzip and zlib by their first bytes


def _zstd() -> _Decoder:
    return zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).decompressobj()


DECODERS: dict[str, Callable[[], _Decoder]] = {
    "deflate": _inflate,
    "gzip": _inflate,
    "x-gzip": _inflate,
    "zstd": _zstd,
}
"""Coding -> its decoder. Providers may name these in ``accept-encoding``."""


class Decompressor:
    """Decompresses one coding as the bytes arrive."""

    def __init__(self, coding: str) -> None:
        """:raises UpstreamBroken: the coding is unknown."""
        new = DECODERS.get(coding)
        if new is None:
            raise UpstreamBroken(f"The upstream's answer is compressed in an unknown way, {coding[:40]!r}.")
        self._new = new
        self._decoder = new()

    @property
    def is_at_end(self) -> bool:
        """Whether a compressed stream has just ended."""
        return self._decoder.eof

    def feed(self, data: bytes) -> bytes:
        """Decompress the next bytes. Several streams may follow each other: some servers send one per flush.

        :raises UpstreamBroken: the bytes are damaged.
        """
        decompressed = b""
        while data:
            if self._decoder.eof:
                self._decoder = self._new()
            try:
                decompressed += self._decoder.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise UpstreamBroken("The upstream's answer is damaged or compressed in an unknown way.") from error
            data = self._decoder.unused_data
        return decompressed

    def feed_limited(self, data: bytes, max_bytes: int) -> bytes:
        """Decompress the next bytes, in slices, so that little more than the limit is allocated.

        :param max_bytes: size that the result may have.
        :raises UpstreamBroken: the bytes are damaged, or the result is longer.
        """
        pieces, size = [], 0
        for start in range(0, len(data), SLICE_BYTES):
            pieces.append(self.feed(data[start : start + SLICE_BYTES]))
            size += len(pieces[-1])
            if size > max_bytes:
                raise UpstreamBroken(f"The upstream's answer is longer than {max_bytes} bytes.")
        return b"".join(pieces)


class DecompressedBody(ResponseBody):
    """The decompressed form of a body. It buffers nothing, so its descriptor is the one of the body."""

    def __init__(self, body: ResponseBody, codings: Iterable[str]) -> None:
        """:param codings: in the order in which the upstream applied them.

        :raises UpstreamBroken: one is unknown.
        """
        self._body = body
        self._decompressors = [Decompressor(coding) for coding in reversed(list(codings))]

    def read(self, timeout: float, client: ClientConnection | None = None) -> bytes | None:
        """Return the decompressed form of the bytes that have arrived.

        :raises UpstreamBroken: it is damaged, or what has arrived at once is too long.
        """
        while data := self._body.read(timeout, client):
            for decompressor in self._decompressors:
                data = decompressor.feed_limited(data, MAX_BYTES)
            if data:
                return data
        if data == b"" and not all(decompressor.is_at_end for decompressor in self._decompressors):
            raise UpstreamBroken("The upstream's answer ended early.")
        return data

    def fileno(self) -> int | None:
        """The descriptor of the compressed body."""
        return self._body.fileno()

    def close(self) -> None:
        """Close the compressed body."""
        self._body.close()


def split_codings(values: Iterable[str]) -> list[str]:
    """The codings in the values of ``content-encoding``, without ``identity``, in the order of their application."""
    tokens = (token.strip().lower() for value in values for token in value.split(","))
    return [token for token in tokens if token not in ("", "identity")]


def decompress(chunks: Iterable[bytes], codings: Iterable[str], max_bytes: int) -> bytes:
    """Decompress a complete body. It never needs much more memory than the result. An empty body stays empty.

    :param chunks: the chunks of the body.
    :param max_bytes: size that the result may have.
    :raises UpstreamBroken: it is damaged or too long, or a coding is unknown.
    """
    for coding in reversed(list(codings)):
        chunks = _decompress_slices(chunks, Decompressor(coding))
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > max_bytes:
            raise UpstreamBroken(f"The upstream's answer is longer than {max_bytes} bytes.")
    return bytes(content)


def _decompress_slices(chunks: Iterable[bytes], decompressor: Decompressor) -> Iterator[bytes]:
    """Yield the decompressed chunks. Slices are small, because each byte may become thousands."""
    is_empty = True
    for chunk in chunks:
        for start in range(0, len(chunk), SLICE_BYTES):
            is_empty = False
            yield decompressor.feed(chunk[start : start + SLICE_BYTES])
    if not is_empty and not decompressor.is_at_end:
        raise UpstreamBroken("The upstream's answer ended early.")
