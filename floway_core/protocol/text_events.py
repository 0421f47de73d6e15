"""The events with text of an output item, and the field of the item that each of them fills."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class TextLocation(NamedTuple):
    """The part or field of an output item that an event fills."""

    item_type: str
    """``type`` of the item."""
    item_field: str
    """Field of the item: a list of parts, or the text itself."""
    index_field: str
    """Field of the event with the index of the part; empty if the item's field is the text itself."""
    part_type: str = ""
    """``type`` of the part; empty for events that contain the part with its type."""
    text_field: str = "text"
    """Field with the text, both in the part and in the event that ends the text."""

    @property
    def address(self) -> tuple[str, ...]:
        """The fields of an event that say to which text it belongs."""
        return ("type", "item_id", "output_index", *([self.index_field] if self.index_field else []))


_MESSAGE_CONTENT = ("message", "content", "content_index")
_REASONING_CONTENT = ("reasoning", "content", "content_index")
_REASONING_SUMMARY = ("reasoning", "summary", "summary_index")
TEXT_LOCATIONS = {
    "output_text": TextLocation(*_MESSAGE_CONTENT, "output_text"),
    "refusal": TextLocation(*_MESSAGE_CONTENT, "refusal", "refusal"),
    "reasoning_text": TextLocation(*_REASONING_CONTENT, "reasoning_text"),
    "reasoning_summary_text": TextLocation(*_REASONING_SUMMARY, "summary_text"),
    "function_call_arguments": TextLocation("function_call", "arguments", "", text_field="arguments"),
    "custom_tool_call_input": TextLocation("custom_tool_call", "input", "", text_field="input"),
    "mcp_call_arguments": TextLocation("mcp_call", "arguments", "", text_field="arguments"),
    "code_interpreter_call_code": TextLocation("code_interpreter_call", "code", "", text_field="code"),
}
"""By the name of the events with the text, without ``response.`` and the suffix."""

_PART_LOCATIONS = {
    "content_part": TextLocation(*_MESSAGE_CONTENT),
    "reasoning_summary_part": TextLocation(*_REASONING_SUMMARY),
}

DELTA_EVENTS = {f"response.{name}.delta": location for name, location in TEXT_LOCATIONS.items()}
"""Events that append to a text."""

TEXT_DONE_EVENTS = {f"response.{name}.done": location for name, location in TEXT_LOCATIONS.items()}
"""Events with a complete text."""

PART_EVENTS = {
    f"response.{name}.{suffix}": location for name, location in _PART_LOCATIONS.items() for suffix in ("added", "done")
}
"""Events with a complete part."""

WHOLE_EVENTS = {**TEXT_DONE_EVENTS, **PART_EVENTS}
"""Events with a complete text or part. For parts, see ``locate_part``."""


def locate_part(event: Mapping[str, Any], location: TextLocation) -> TextLocation:
    """Return the location of an event with a complete part: messages and readable reasoning have the same events.

    :param location: that of its type.
    """
    part = event.get("part")
    is_reasoning = isinstance(part, dict) and part.get("type") == "reasoning_text"
    return TextLocation(*_REASONING_CONTENT) if is_reasoning else location
