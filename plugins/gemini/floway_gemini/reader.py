"""Read an answer that is passed through to the client, for limits, log and metrics."""

from collections.abc import Iterator
from typing import Any

from floway_core.dialect import AnswerReader
from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import read_failure
from floway_core.protocol.responses import COMPLETED, FAILED, INCOMPLETE
from floway_gemini import usage

FILTERED = (
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "MODEL_ARMOR",
)
"""Finish reasons of answers that the upstream withholds."""


def incomplete_reason(finish_reason: Any) -> str | None:
    """Return ``incomplete_details.reason`` of a response for a finish reason; None for a complete response."""
    if finish_reason == "MAX_TOKENS":
        return "max_output_tokens"
    return "content_filter" if finish_reason in FILTERED else None


def documents(block: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of events, and those that Google sends outside of events."""
    for event in sse.split(block):
        data = sse.parse(event)[1] or event
        try:
            content = jsontext.loads(data) if data.strip() else None
        except ValueError:
            continue
        if isinstance(content, dict):
            yield content


def candidate_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the first candidate of an answer; an empty object if it has none."""
    candidates = content.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    return first if isinstance(first, dict) else {}


def block_reason(content: dict[str, Any]) -> str | None:
    """Return why the upstream has blocked the prompt; None if it has not."""
    feedback = content.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return reason if isinstance(reason, str) and reason else None


class ContentReader(AnswerReader):
    """Reads one answer, streamed or not. A stream ends with its body, because chunks may follow the one with the finish
    reason."""

    def __init__(self) -> None:
        super().__init__()
        self._finish_reason: str | None = None

    def feed(self, block: bytes) -> None:
        """Read events (see ``AnswerReader``)."""
        for content in documents(block):
            self._read(content)

    def end(self) -> None:
        """Handle the end of the stream."""
        if self._finish_reason and self.terminal is None:
            reason = incomplete_reason(self._finish_reason)
            self.terminal = INCOMPLETE if reason else COMPLETED
            self.response["status"] = self.terminal.removeprefix("response.")
            if reason:
                self.response["incomplete_details"] = {"reason": reason}

    def read(self, content: bytes) -> None:
        """Read a whole answer (see ``AnswerReader``).

        :raises ValueError: it is not an answer.
        """
        answer = jsontext.loads(content)
        if not isinstance(answer, dict):
            raise ValueError("it is not a JSON object")
        self._read(answer)
        if self.terminal is None:
            self._finish_reason = self._finish_reason or "STOP"
        self.end()

    def _read(self, content: dict[str, Any]) -> None:
        if content.get("error"):
            self.terminal, self.failure = FAILED, read_failure(content)
            self.response["status"] = "failed"
            return
        candidate = candidate_of(content)
        self.has_content = self.has_content or bool(candidate.get("content"))
        reason = candidate.get("finishReason")
        self._finish_reason = reason if isinstance(reason, str) else self._finish_reason
        if block_reason(content):
            self._finish_reason = "SAFETY"
        if isinstance(metadata := content.get("usageMetadata"), dict):
            self.response["usage"] = usage.to_responses(metadata)
