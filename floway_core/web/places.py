"""The places of a worker for requests that run at the same time."""

import threading
from collections.abc import Mapping
from typing import Any

from floway_core.errors import Overloaded

PLACE = "floway.place"
"""The key in the WSGI environment for the request's ``Place``."""


class Places:
    """Counts the requests that run. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """:param limit: requests at a time."""
        self._limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    def try_take(self) -> bool:
        """Take a place; return whether there was one."""
        with self._lock:
            is_free = self._taken < self._limit
            self._taken += is_free
        return is_free

    def free(self) -> None:
        """Give a place back."""
        with self._lock:
            self._taken -= 1


class Place:
    """The place of one request among those that run at the same time."""

    __slots__ = ("_places", "is_taken")

    def __init__(self, places: Places) -> None:
        self._places = places
        self.is_taken = False

    def take(self) -> None:
        """Take the place; a second call does nothing.

        :raises Overloaded: there is none.
        """
        if not self.is_taken:
            if not self._places.try_take():
                raise Overloaded
            self.is_taken = True

    def free(self) -> None:
        """Free the place if it was taken."""
        if self.is_taken:
            self.is_taken = False
            self._places.free()


def take_place(environ: Mapping[str, Any]) -> None:
    """Take the place of a request, unless it needs none.

    :raises Overloaded: there is none.
    """
    place: Place | None = environ.get(PLACE)
    if place is not None:
        place.take()
