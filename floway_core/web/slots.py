"""The slots of a worker: one for each request that it runs at the same time, ``FLOWAY_THREADS`` in all."""

import threading
from collections.abc import Mapping
from typing import Any

from floway_core.errors import Overloaded

SLOT = "floway.slot"
"""The key in the WSGI environment for the request's ``Slot``."""


class Slots:
    """Counts the requests that hold a slot. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """:param limit: requests at a time."""
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()

    def try_acquire(self) -> bool:
        """Acquire a slot; return whether one was free."""
        with self._lock:
            is_free = self._used < self._limit
            self._used += is_free
        return is_free

    def release(self) -> None:
        """Release an acquired slot."""
        with self._lock:
            self._used -= 1


class Slot:
    """The slot of one request, from before it is acquired until after it is released."""

    __slots__ = ("_slots", "is_acquired")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.is_acquired = False

    def acquire(self) -> None:
        """Acquire the slot; a second call does nothing.

        :raises Overloaded: all slots are in use.
        """
        if not self.is_acquired:
            if not self._slots.try_acquire():
                raise Overloaded
            self.is_acquired = True

    def release(self) -> None:
        """Release the slot if it was acquired."""
        if self.is_acquired:
            self.is_acquired = False
            self._slots.release()


def acquire_slot(environ: Mapping[str, Any]) -> None:
    """Acquire a slot for a request, unless its path needs none.

    :raises Overloaded: all slots are in use.
    """
    slot: Slot | None = environ.get(SLOT)
    if slot is not None:
        slot.acquire()
