"""Build events that announce a response, an item or a part. Clients need them, and some upstreams omit them."""

from typing import Any

from floway_core.protocol.output_item import OutputItem
from floway_core.protocol.responses import blank_response
from floway_core.protocol.text_events import DELTA_EVENTS, PART_EVENTS, TEXT_DONE_EVENTS, TextLocation

_FOLLOWING_EVENTS = frozenset(
    {
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        *DELTA_EVENTS,
        *TEXT_DONE_EVENTS,
        *PART_EVENTS,
    }
)


def follows_announcement(event_type: object) -> bool:
    """Return whether an event of this type must follow ``response.created``."""
    return event_type in _FOLLOWING_EVENTS


def announced_response(response: object, model: str) -> dict[str, Any]:
    """Return the response object of ``response.created``.

    :param response: the response object of a later event, if it has one.
    :param model: the requested model, where no event names one.
    """
    known = response if isinstance(response, dict) else {}
    return {**blank_response(model), **known, "status": "in_progress", "output": [], "usage": None}


def missing_announcements(
    item: OutputItem, location: TextLocation, part_index: object, *, is_part: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Return type and content of the missing events before an event about a part of ``item``: usually none.

    :param part_index: index in the list of parts; anything but an integer counts as 0.
    :param is_part: whether that event contains the complete part, so that it announces the part itself.
    """
    events: list[tuple[str, dict[str, Any]]] = []
    if not item.is_announced:
        added = {"status": "in_progress", **item.payload, "id": item.id}
        events.append(("response.output_item.added", {"item": added}))
    if is_part or item.has_part(location, part_index):
        return events
    if location.item_field == "content" and location.part_type:
        part: dict[str, Any] = {"type": location.part_type, location.text_field: ""}
        if location.part_type == "output_text":
            part["annotations"] = []
        index = part_index if isinstance(part_index, int) else 0
        events.append(("response.content_part.added", {"item_id": item.id, "content_index": index, "part": part}))
    return events
