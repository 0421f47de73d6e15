"""The limit for the stored items in the input of the model."""

from floway_core.errors import GatewayError

WORK_FACTOR = 4
"""Multiple of the limit that may be decoded to resolve ambiguous references."""


class InputLimit:
    """Counts bytes up to a limit."""

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
        """Return the limit for decoding items to resolve ambiguous references."""
        return InputLimit(WORK_FACTOR * self.limit)
