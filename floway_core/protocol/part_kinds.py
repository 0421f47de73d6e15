"""The kinds of parts whose text a stream contains in deltas, with the events of each."""

from typing import NamedTuple

from floway_core.protocol.text_events import TEXT_LOCATIONS, TextLocation


class PartKind(NamedTuple):
    """A part of an item whose text arrives in deltas."""

    location: TextLocation
    name: str
    """Name of the events with its text, without ``.delta`` and ``.done``."""
    part_events: str
    """Name of the events that open and close the part, without ``.added`` and ``.done``."""


OUTPUT_TEXT = PartKind(TEXT_LOCATIONS["output_text"], "response.output_text", "response.content_part")
REFUSAL = PartKind(TEXT_LOCATIONS["refusal"], "response.refusal", "response.content_part")
SUMMARY_TEXT = PartKind(
    TEXT_LOCATIONS["reasoning_summary_text"],
    "response.reasoning_summary_text",
    "response.reasoning_summary_part",
)
REASONING_TEXT = PartKind(TEXT_LOCATIONS["reasoning_text"], "response.reasoning_text", "response.content_part")
