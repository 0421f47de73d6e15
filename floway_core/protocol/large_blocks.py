"""Of the threads that process large blocks of JSON, one does so at a time.

Each step holds the interpreter lock: parsing 50 MB, for 150 ms. If several threads did this at the same time, everybody
else would have to wait for all of them.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

LARGE_BYTES = 2**20
"""Size of a block that is large."""

LOCK = threading.RLock()
"""Held by the thread that processes a large block."""

Result = TypeVar("Result")


def one_at_a_time(process: Callable[[Any, bytes], Result]) -> Callable[[Any, bytes], Result]:
    """Decorate a method that processes a block: only one large block is processed at a time, in all of them."""

    @functools.wraps(process)
    def process_in_turn(self: Any, block: bytes) -> Result:
        if len(block) < LARGE_BYTES:
            return process(self, block)
        with LOCK:
            return process(self, block)

    return process_in_turn
