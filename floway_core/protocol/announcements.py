"""Build events that announce a response, an item or a part. Clients need them, and some upstreams omit them."""

from collections.abc import Mapping
from typing import Any

from floway_core.protocol.output_item import OutputItem
from floway_core.protocol.responses import blank_response
from floway_core.protocol.text_events import DELTA_EVENTS, WHOLE_EVENTS, TextLocation

_FOLLOWING_EVENTS = frozenset(
    {
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        *DELTA_EVENTS,
        *WHOLE_EVENTS,
    }
)


_PART_ANNOUNCEMENTS = {
    "content": "response.content_part.added",
    "summary": "response.reasoning_summary_part.added",
}
"""The event that announces a part, by the field of the item with the list of parts."""


def follows_announcement(event_type: object) -> bool:
    """Return whether an event of this type must follow ``response.created``."""
    return event_type in _FOLLOWING_EVENTS


def announced_response(response: object, model: str) -> dict[str, Any]:
    """Return the response object of ``response.created``.

    :param response: the response object of a later event, if it has one.
    :param model: the requested model, where no event names one.
    """
    fields = response if isinstance(response, dict) else {}
    return {**blank_response(model), **fields, "status": "in_progress", "output": [], "usage": None}


def missing_announcements(
    item: OutputItem, location: TextLocation, part_index: object, *, event: Mapping[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Return type and content of the missing events before an event about a part of ``item``: usually none.

    :param part_index: index in the list of parts; anything but an integer counts as 0.
    :param event: that event. It may announce the part itself.
    """
    events: list[tuple[str, dict[str, Any]]] = []
    if not item.is_announced:
        added = {"status": "in_progress", **item.payload, "id": item.id}
        events.append(("response.output_item.added", {"item": added}))
    announcement = _PART_ANNOUNCEMENTS.get(location.item_field)
    if announcement is None or announcement == event.get("type") or item.has_part(location, part_index):
        return events
    complete = event.get("part")
    part = complete if isinstance(complete, dict) else {"type": location.part_type or "output_text"}
    part = {**part, "refusal" if part.get("type") == "refusal" else "text": ""}
    if part.get("type") == "output_text":
        part["annotations"] = []
    index = part_index if isinstance(part_index, int) else 0
    events.append((announcement, {"item_id": item.id, location.index_field: index, "part": part}))
    return events
