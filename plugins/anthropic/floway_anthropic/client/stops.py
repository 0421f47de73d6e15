"""The ``stop_reason`` of a message."""

from collections.abc import Mapping
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
    """Return the fields of a message that state why it ended.

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
