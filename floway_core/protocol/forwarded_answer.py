"""Read the usage in an answer of another API while it is forwarded."""

import json
import re
from typing import Any

from floway_core.protocol.failures import Failure
from floway_core.protocol.responses import COMPLETED, FAILED

TAIL_BYTES = 64 * 1024
"""Bytes at the end of an answer that are searched for its usage."""

_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')


class ForwardedAnswer:
    """Reads an answer of any kind. Only the last usage object in it counts."""

    def __init__(self) -> None:
        self.terminal: str | None = None
        """``response.completed`` after the end of the answer; ``response.failed`` if it has broken off."""
        self.failure: Failure | None = None
        self.response: dict[str, Any] = {}
        """After the end of the answer: its ``usage``, if it has any."""
        self._tail = b""

    @property
    def has_content(self) -> bool:
        """Whether any bytes have arrived."""
        return bool(self._tail)

    def partial_output(self) -> list[dict[str, Any]]:
        """Return nothing: what the bytes mean is not known."""
        return []

    def feed(self, data: bytes) -> None:
        """Add the next bytes."""
        self._tail = (self._tail + data)[-TAIL_BYTES:]

    def end(self) -> None:
        """Handle the end of the answer."""
        self.terminal = COMPLETED
        for match in _USAGE.finditer(self._tail):
            text = self._tail[match.end() :].decode("utf-8", "replace")
            try:
                self.response["usage"] = json.JSONDecoder().raw_decode(text)[0]
            except (ValueError, RecursionError):
                continue

    def fail(self, code: str, message: str) -> None:
        """Record that the answer has broken off."""
        self.terminal = FAILED
        self.response["error"] = {"code": code, "message": message}
