"""A few compressed bytes of an upstream cannot fill the memory."""

import tracemalloc
import zlib

import pytest
import zstandard

from floway_core.errors import UpstreamBroken
from floway_core.provider import ResponseBody
from floway_core.upstream.body_splitter import MAX_BYTES
from floway_core.upstream.decompression import DecompressedBody

PIECE = bytes(2**20)


class Arrived(ResponseBody):
    """A body that has arrived at once."""

    def __init__(self, content):
        self.content = content

    def read(self, timeout, client=None):
        content, self.content = self.content, b""
        return content

    def close(self):
        pass


def compressed(compressor, pieces):
    return b"".join([*(compressor.compress(PIECE) for _ in range(pieces)), compressor.flush()])


@pytest.mark.parametrize(
    ("coding", "compressor"),
    [("zstd", zstandard.ZstdCompressor().compressobj), ("gzip", lambda: zlib.compressobj(wbits=31))],
)
def test_what_expands_too_much_is_given_up_early(coding, compressor):
    content = compressed(compressor(), 8 * MAX_BYTES // len(PIECE))
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamBroken, match="longer than"):
            DecompressedBody(Arrived(content), [coding]).read(1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_BYTES


def test_what_is_just_short_enough_is_read():
    content = compressed(zstandard.ZstdCompressor().compressobj(), MAX_BYTES // len(PIECE))
    assert len(DecompressedBody(Arrived(content), ["zstd"]).read(1.0)) == MAX_BYTES
