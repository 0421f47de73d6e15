"""Why an answer stopped, and the stop sequences, which the gateway looks for itself: the Responses API has none."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_INCOMPLETE = {
    "max_output_tokens": "max_tokens",
    "content_filter": "refusal",
    "pause_turn": "pause_turn",
    "model_context_window_exceeded": "model_context_window_exceeded",
}
"""``incomplete_details.reason`` of a response -> ``stop_reason``."""


def stop_fields(
    response: Mapping[str, Any], *, calls_tool: bool, refusal: str | None, stop_sequence: str | None
) -> dict[str, Any]:
    """Return the fields of a message that say why it stopped.

    :param calls_tool: whether the message has a ``tool_use`` block.
    :param refusal: the text with which the model refused; None if it did not.
    :param stop_sequence: the stop sequence that occurred; None if none did.
    """
    details = response.get("incomplete_details")
    reason = "end_turn"
    if stop_sequence is not None:
        reason = "stop_sequence"
    elif response.get("status") == "incomplete":
        reason = _INCOMPLETE.get(str(details.get("reason")) if isinstance(details, dict) else "", "max_tokens")
    elif refusal is not None:
        reason = "refusal"
    elif calls_tool:
        reason = "tool_use"
    fields: dict[str, Any] = {"stop_reason": reason, "stop_sequence": stop_sequence}
    if reason == "refusal":
        fields["stop_details"] = {"type": "refusal", "category": None, "explanation": refusal or None}
    return fields


class StopScanner:
    """Looks for stop sequences in one text that arrives in pieces."""

    def __init__(self, sequences: Sequence[str]) -> None:
        """:param sequences: none of them empty; at least one."""
        self._sequences = sequences
        self._longest = max(map(len, sequences))
        self._held = ""
        self.found: str | None = None
        """The stop sequence that has occurred first."""

    def feed(self, piece: str) -> str:
        """Return the text that may be shown: up to the stop sequence, and not what may be the beginning of one."""
        if self.found is not None:
            return ""
        text = self._held + piece
        first = _find_first(text, self._sequences)
        if first:
            position, self.found = first
            self._held = ""
            return text[:position]
        kept = self._count_held(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def end(self) -> str:
        """Return what was held back, because the text has ended."""
        held, self._held = self._held, ""
        return held

    def _count_held(self, text: str) -> int:
        """Return how many characters at the end of ``text`` may be the beginning of a stop sequence."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(sequence.startswith(end) for sequence in self._sequences):
                return length
        return 0


def _find_first(text: str, sequences: Iterable[str]) -> tuple[int, str] | None:
    """Return the position of the stop sequence that is complete first in a text, and the sequence.

    Its end counts, not its beginning: so it does not matter in which pieces the text arrives.
    """
    found = [(position, sequence) for sequence in sequences if (position := text.find(sequence)) >= 0]
    return min(found, key=lambda one: (one[0] + len(one[1]), one[0]), default=None)
