"""The limit for what a request may draw from the store into the input of the model."""

from floway_core.errors import GatewayError

WORK_FACTOR = 4
"""How many times the limit may be decoded to find out which of several items a reference means."""


class InputLimit:
    """Counts bytes until they are too many."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes of JSON."""
        self.limit = limit
        self._used = 0

    def add(self, size: int) -> None:
        """Count ``size`` more bytes. Call it before they are loaded.

        :raises GatewayError: 400 ``input_too_large``.
        """
        self._used += size
        if self._used > self.limit:
            message = f"The stored items that the input continues and refers to have more than {self.limit} bytes."
            raise GatewayError(400, message, param="input", code="input_too_large")

    def for_work(self) -> "InputLimit":
        """Return the limit for decoding items that may turn out not to be meant."""
        return InputLimit(WORK_FACTOR * self.limit)
