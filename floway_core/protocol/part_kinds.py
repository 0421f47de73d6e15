"""The kinds of parts whose text a stream contains in deltas, with the fields and events of each."""

from typing import NamedTuple


class PartKind(NamedTuple):
    """A part of an item whose text arrives in deltas."""

    item_type: str
    item_field: str
    """Field of the item: a list of parts."""
    index_field: str
    part_type: str
    text_field: str
    delta_event: str
    done_event: str
    part_events: str
    """Name of the events that open and close the part, without ``.added`` and ``.done``."""


OUTPUT_TEXT = PartKind(
    "message",
    "content",
    "content_index",
    "output_text",
    "text",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part",
)
REFUSAL = OUTPUT_TEXT._replace(
    part_type="refusal",
    text_field="refusal",
    delta_event="response.refusal.delta",
    done_event="response.refusal.done",
)
SUMMARY_TEXT = PartKind(
    "reasoning",
    "summary",
    "summary_index",
    "summary_text",
    "text",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part",
)
REASONING_TEXT = PartKind(
    "reasoning",
    "content",
    "content_index",
    "reasoning_text",
    "text",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part",
)
