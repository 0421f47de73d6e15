"""Ids for requests: UUIDs of version 7, with random bytes that are taken from the system for many of them at once."""

import os
import time

RANDOM_BYTES = 10
"""Random bytes of an id, of which six bits say that it is a UUID of version 7."""

IDS_PER_READ = 100

_spare: list[bytes] = []
"""Random bytes for further ids. Asking the system for them takes longer than everything else."""

os.register_at_fork(after_in_child=_spare.clear)  # two processes must not have the same


def new_request_id() -> str:
    """Return a new id. Later ids are greater, unless they are of the same millisecond."""
    try:
        random = _spare.pop()
    except IndexError:
        block = os.urandom(RANDOM_BYTES * IDS_PER_READ)
        pieces = [block[start : start + RANDOM_BYTES] for start in range(0, len(block), RANDOM_BYTES)]
        random = pieces.pop()
        _spare.extend(pieces)
    milliseconds = f"{time.time_ns() // 1_000_000:012x}"
    digits = random.hex()
    variant = "89ab"[random[2] >> 6]
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{digits[1:4]}-{variant}{digits[5:8]}-{digits[8:]}"
