"""Configure the memory allocator of the C library for many threads of which one runs at a time."""

import contextlib
import ctypes
import os

M_ARENA_MAX = -8
"""glibc's number of the parameter, from ``malloc.h``."""

ARENAS = 2
"""Areas of memory that the threads of a process share.

By default there are eight per processor, so that threads need not wait for each other; here they wait for the
interpreter anyway. Memory that a request frees in one area cannot be used in another one. So requests of different
sizes would leave holes in all of them, and a worker would grow for an hour.
"""


def limit_arenas() -> None:
    """Limit the number of arenas in this process and its children, unless the environment does.

    Other C libraries than glibc have no such parameter.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
