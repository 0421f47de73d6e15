"""Read the body of a request with gunicorn's readers, more strictly and with limits."""

import io
import math
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import InvalidChunkExtension, NoMoreData, ParseException
from gunicorn.http.unreader import Unreader

from floway_core.server.gunicorn_hooks import HookedRequest

MAX_FRAMING_BYTES = 32 * 1024
"""Size of a chunk header with its extensions, and of all trailers."""


class RequestBody(io.RawIOBase):
    """Closes the connection after an invalid body: the following bytes must not be parsed as a request."""

    def __init__(self, request: HookedRequest, reader: Any) -> None:
        self._request = request
        self._reader = reader
        self.ended = False
        """Whether the whole body has been read, including its end."""

    @property
    def remaining(self) -> float:
        """The number of bytes that are still to be read; infinite if it is unknown."""
        return self._reader.remaining if isinstance(self._reader, LengthReader) else math.inf

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # Buffer is a type from Python 3.12 on
        """Read the next bytes.

        :raises OSError: the body is invalid, or does not arrive in time.
        """
        try:
            data: bytes = self._reader.read(len(buffer))
        except OSError:
            self._request.force_close()
            raise
        except ParseException as error:  # of a trailer
            self._request.force_close()
            raise NoMoreData from error
        buffer[: len(data)] = data
        self.ended = not data
        return len(data)


class LengthReader:
    """Reads a body of known length in chunks as they arrive. gunicorn's reader copies them kilobyte by kilobyte."""

    def __init__(self, request: HookedRequest, length: int) -> None:
        self._request = request
        self.remaining = length
        """Bytes that are still to be read."""

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes; ``b""`` at the end of the body or the connection."""
        size = min(size, self.remaining)
        if not size:
            return b""
        data: bytes = self._request.unreader.read()
        if not data:
            self._request.force_close()
        if len(data) > size:
            self._request.unreader.unread(data[size:])
            data = data[:size]
        self.remaining -= len(data)
        return data


class LimitedChunkedReader(ChunkedReader):  # type: ignore[misc]  # gunicorn has no annotations
    """Limits the size of chunk headers and trailers."""

    def parse_chunk_size(self, unreader: Unreader, data: bytes | None = None) -> tuple[int, bytes | None]:
        """Parse the header of a chunk.

        :returns: the size, and the following bytes; None after the last chunk.
        :raises InvalidChunkExtension: the header is too long or malformed.
        """
        data = data or b""
        while b"\n" not in data:
            if len(data) > MAX_FRAMING_BYTES:
                raise InvalidChunkExtension("too long")
            if not (more := unreader.read()):
                raise NoMoreData
            data += more
        if not data[: data.index(b"\n")].endswith(b"\r"):
            raise InvalidChunkExtension("bare LF not allowed")
        chunk: tuple[int, bytes | None] = super().parse_chunk_size(unreader, data)
        return chunk

    def get_data(self, unreader: Unreader, buf: Any) -> None:
        """Read more of the trailers into ``buf``."""
        if buf.tell() > MAX_FRAMING_BYTES:
            raise InvalidChunkExtension("trailers too long")
        super().get_data(unreader, buf)
