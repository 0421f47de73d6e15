"""Shortcuts for frequent events: append a delta without a search for its item, replace an id without encoding."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class ResponseIdChange(NamedTuple):
    """Replaces only the id of the response in an event, which is faster than encoding the event again."""

    old_id: bytes
    new_id: bytes

    def apply(self, event: bytes) -> bytes | None:
        """Return the event with the new id; None if the old one occurs more than once, perhaps in a text."""
        return event.replace(self.old_id, self.new_id) if event.count(self.old_id) == 1 else None


class DeltaTarget:
    """The text of the last delta. Most deltas belong to the same text as the previous one."""

    __slots__ = ("_event_type", "_index_field", "_item_id", "_output_index", "_part_index", "_text", "sequence_number")

    def __init__(self, event: Mapping[str, Any], index_field: str, text: bytearray) -> None:
        self._event_type = event["type"]
        self._item_id, self._output_index = event.get("item_id"), event.get("output_index")
        self._index_field, self._part_index = index_field, event.get(index_field)
        self._text = text
        self.sequence_number = -1
        """That of the last delta."""

    def append(self, event: Mapping[str, Any]) -> bool:
        """Append the delta of an event if it belongs to this text.

        :returns: whether it does.
        """
        if (
            event["type"] != self._event_type
            or event.get("item_id") != self._item_id
            or event.get("output_index") != self._output_index
            or event.get(self._index_field) != self._part_index
        ):
            return False
        delta, number = event.get("delta"), event.get("sequence_number")
        if isinstance(delta, str):
            try:
                self._text += delta.encode()
            except UnicodeEncodeError:  # half of a surrogate pair; the next delta starts with the other half
                self._text += delta.encode("utf-8", "surrogatepass")
        if isinstance(number, int):
            self.sequence_number = number
        return True
