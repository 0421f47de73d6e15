"""Wait for a socket or a descriptor of any number: ``select.select`` takes none from 1024 on."""

import select
from typing import Protocol


class HasFileno(Protocol):
    """A socket, or another object with a descriptor."""

    def fileno(self) -> int: ...


def is_readable(file: int | HasFileno, seconds: float | None = 0.0) -> bool:
    """Wait until a file can be read; return whether it can.

    :param seconds: how long to wait at most; None: without end.
    """
    return _wait(file, select.POLLIN, seconds)


def is_writable(file: int | HasFileno, seconds: float | None = 0.0) -> bool:
    """Wait until a file can be written; return whether it can. The parameters are those of ``is_readable``."""
    return _wait(file, select.POLLOUT, seconds)


def _wait(file: int | HasFileno, event: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(file, event)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
