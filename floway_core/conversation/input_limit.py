"""The limit for the stored items in the input of the model, and the memory for stored data."""

import math
from collections.abc import Callable

from floway_core.errors import GatewayError

WORK_FACTOR = 4
"""Multiple of the limit that may be decoded to resolve ambiguous references."""


COPIES = 3
"""How often a stored item is in the memory of a request: its text, the parsed item, and what is sent of it."""


def reserve_nothing(size: int) -> None:
    """Reserve no memory."""


class InputLimit:
    """Counts the bytes of stored data that a request loads, up to a limit, and reserves memory for them."""

    def __init__(self, limit: float = math.inf, reserve: Callable[[int], None] = reserve_nothing) -> None:
        """:param limit: bytes of JSON.
        :param reserve: reserves bytes of memory for the request, or raises a ``GatewayError``.
        """
        self.limit = limit
        self.reserve = reserve
        self._used = 0

    def add(self, size: int) -> None:
        """Count ``size`` more bytes. Call it before they are loaded.

        :raises GatewayError: 400 ``input_too_large``.
        """
        self._used += size
        if self._used > self.limit:
            message = f"The stored items that the input continues and refers to have more than {self.limit} bytes."
            raise GatewayError(400, message, param="input", code="input_too_large")
        self.reserve(COPIES * size)

    def for_work(self) -> "InputLimit":
        """Return the limit for decoding items to resolve ambiguous references."""
        return InputLimit(WORK_FACTOR * self.limit, lambda size: self.reserve(size // COPIES))
