"""Read a message that is passed through to the client, for limits, log and metrics."""

from typing import Any

from floway_anthropic import usage
from floway_core.dialect import AnswerReader
from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import read_failure
from floway_core.protocol.responses import COMPLETED, FAILED, INCOMPLETE

_DELTA = b"event: content_block_delta"

INCOMPLETE_REASONS = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
    "pause_turn": "pause_turn",
}
"""``stop_reason`` of a message -> ``incomplete_details.reason`` of a response; all others are complete."""


class MessageReader(AnswerReader):
    """Reads one answer: a stream, or a whole message."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}
        self._stop_reason: Any = None

    def feed(self, block: bytes) -> None:
        """Read events (see ``AnswerReader``)."""
        for event in sse.split(block):
            if event.startswith(_DELTA):  # most events are deltas, and only their presence counts
                self.has_content = True
                continue
            name, data = sse.parse(event)
            try:
                content = jsontext.loads(data) if data else None
            except ValueError:
                continue
            if isinstance(content, dict):
                self._read_event(str(content.get("type") or name), content)

    def read(self, content: bytes) -> None:
        """Read a whole message (see ``AnswerReader``).

        :raises ValueError: it is not a message.
        """
        message = jsontext.loads(content)
        if not isinstance(message, dict):
            raise ValueError("it is not a JSON object")
        if message.get("type") == "error":
            self._fail(message)
            return
        self._read_event("message_start", {"message": message})
        self._stop_reason = message.get("stop_reason")
        self._complete()

    def _read_event(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "message_start":
            message = content.get("message")
            message = message if isinstance(message, dict) else {}
            self._usage = usage.merge(self._usage, message.get("usage"))
        elif kind == "message_delta":
            delta = content.get("delta")
            reason = delta.get("stop_reason") if isinstance(delta, dict) else None
            self._stop_reason = reason or self._stop_reason  # a later event may contain only the usage
            self._usage = usage.merge(self._usage, content.get("usage"))
        elif kind == "message_stop":
            self._complete()
        elif kind == "content_block_delta":
            self.has_content = True
        elif kind == "error":
            self._fail(content)

    def _complete(self) -> None:
        reason = INCOMPLETE_REASONS.get(str(self._stop_reason))
        self.terminal = INCOMPLETE if reason else COMPLETED
        self.response["status"] = self.terminal.removeprefix("response.")
        if reason:
            self.response["incomplete_details"] = {"reason": reason}
        self.response["usage"] = usage.to_responses(self._usage)
        tier = self._usage.get("service_tier")
        if isinstance(tier, str):
            self.response["service_tier"] = tier

    def _fail(self, content: dict[str, Any]) -> None:
        self.terminal, self.failure = FAILED, read_failure(content)
        self.response["status"] = "failed"
