"""Files in which workers share their metrics. Their disk space is reserved.

Only this file uses private names of prometheus_client, as of version 0.26.0.
"""

import errno
import logging
import mmap
import os
import struct

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

log = logging.getLogger("floway.metrics")

INITIAL_SIZE = 1 << 16
"""Bytes; a file grows by doubling."""


class ReservedFile(MmapedDict):
    """A file of metrics that a full disk cannot harm.

    The library creates sparse files. When the disk is full, writing to their mapping ends the process with SIGBUS.
    Here the space is reserved first. If there is none, the metrics of this process stay in its memory, where they are
    invisible, and the file keeps its last values.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._is_shared = True
        if not read_mode:
            try:
                _reserve(filename, INITIAL_SIZE)
            except OSError as error:
                _report(error)
                self._is_shared = False
                filename = os.devnull
        if self._is_shared:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]  # the library has no annotations
            return
        self._f, self._fname, self._positions = open(filename, "a+b"), filename, {}  # noqa: SIM115 - closed with the object
        self._capacity, self._used = INITIAL_SIZE, 8
        self._m = mmap.mmap(-1, INITIAL_SIZE)
        self._m[:4] = struct.pack("i", self._used)

    def _init_value(self, key: str) -> None:
        size = struct.calcsize(f"i{len(key.encode()) + 8}sdd")
        while self._used + size > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        self._capacity *= 2
        if self._is_shared:
            try:
                os.posix_fallocate(self._f.fileno(), 0, self._capacity)
                self._m = mmap.mmap(self._f.fileno(), self._capacity)
                return
            except OSError as error:
                _report(error)
                self._is_shared = False
        content = self._m[: self._used]
        self._m = mmap.mmap(-1, self._capacity)
        self._m[: self._used] = content


def _reserve(filename: str, size: int) -> None:
    """:raises OSError: there is no space. A file that was created for it is removed."""
    with open(filename, "a+b") as file:
        if os.fstat(file.fileno()).st_size:
            return
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            os.unlink(filename)
            raise


def _report(error: OSError) -> None:
    reason = os.strerror(error.errno or errno.EIO)
    log.error("The metrics of worker %d are off from now on, because their file cannot grow: %s", os.getpid(), reason)


def reserve_files() -> None:
    """Make the library use ``ReservedFile`` for all metrics that are created after this call."""
    values.MmapedDict = ReservedFile  # type: ignore[attr-defined]
