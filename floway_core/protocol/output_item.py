"""One output item of a response, while its events arrive."""

from collections.abc import Mapping
from typing import Any

from floway_core.protocol.item_versions import lookup_key, merge_versions
from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_core.protocol.text_events import TextLocation


class ItemPart:
    """One part of an item, or the text field of a tool call, built from its events so far."""

    __slots__ = ("location", "payload", "text")

    def __init__(self, location: TextLocation) -> None:
        self.location = location
        self.text = bytearray()
        """The text so far, in UTF-8, which needs a fraction of the memory of a list of strings."""
        self.payload: dict[str, Any] = {}
        """The complete part from an event."""

    def build(self) -> dict[str, Any] | str:
        """Return the part as an object, or the text if the item's field is the text itself."""
        text = self.text.decode("utf-8", "surrogatepass")
        if not text.isascii():  # two deltas may each carry one half of a surrogate pair
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not self.location.index_field:
            return text
        part = {"type": self.location.part_type or "output_text", **self.payload}
        # The location may come from the event that opens the part, which only states its type.
        text_field = "refusal" if part["type"] == "refusal" else self.location.text_field
        payload_text = part.get(text_field)
        if text and (not isinstance(payload_text, str) or len(text) > len(payload_text)):
            part[text_field] = text
        if part["type"] == "output_text":
            part.setdefault("annotations", [])
        return part


class OutputItem:
    """One output item, since its first event."""

    __slots__ = (
        "call_id",
        "id",
        "index",
        "is_announced",
        "is_closed",
        "lookup_key",
        "parts",
        "payload",
        "rank",
        "upstream_index",
    )

    def __init__(self, payload: dict[str, Any], index: int, item_id: str, rank: int, upstream_index: object) -> None:
        self.payload = payload
        """The item from ``output_item`` events."""
        self.index = index
        """Its ``output_index`` for the client: the order of arrival, since clients append items to a list."""
        self.id = item_id
        """Its id for the client."""
        self.rank = rank
        """Sort key for the order of the final output."""
        self.upstream_index = upstream_index
        """The first ``output_index`` of the upstream, of any type."""
        self.call_id: str | None = None
        """A new call id for the client, if the upstream sent none or the id of another call; else None."""
        self.lookup_key = lookup_key(payload)
        self.is_announced = False
        """Whether the client has seen ``response.output_item.added``."""
        self.is_closed = False
        """Whether the client has seen ``response.output_item.done``."""
        self.parts: dict[tuple[str, int], ItemPart] = {}
        """The parts of an open item, by field of the item and index of the part."""

    def get_part(self, location: TextLocation, part_index: object) -> ItemPart:
        """Return a part of the item; create it if it is new.

        :param part_index: index in the list of parts; anything but an integer counts as 0.
        """
        key = (location.item_field, part_index if isinstance(part_index, int) else 0)
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = ItemPart(location)
        elif location.part_type and not part.location.part_type:
            part.location = location  # the event that announced the part does not say which field holds its text
        return part

    def fill_part(self, event: Mapping[str, Any], location: TextLocation, *, is_part: bool) -> None:
        """Take the complete text, or the complete part, from an event.

        :param is_part: whether the event contains the part.
        """
        part = self.get_part(location, event.get(location.index_field))
        if is_part and isinstance(event.get("part"), dict):
            part.payload = event["part"]
        elif isinstance(text := event.get(location.text_field), str):
            encoded = text.encode("utf-8", "surrogatepass")
            if len(encoded) >= len(part.text):  # some upstreams end a part without its text
                part.text[:] = encoded
        if not location.index_field and isinstance(name := event.get("name"), str):
            self.payload.setdefault("name", name)

    def has_part(self, location: TextLocation, part_index: object) -> bool:
        """Return whether any event about this part has arrived."""
        return (location.item_field, part_index if isinstance(part_index, int) else 0) in self.parts

    def find_new_address(self, event: Mapping[str, Any], index_field: str) -> dict[str, Any]:
        """Return the fields by which an event of the item names it for the client; empty if the event has them.

        :param index_field: field of the event with the index of the part; empty if the event needs none.
        """
        has_item, index = "item" in event, event.get("output_index")
        has_part_index = not index_field or isinstance(event.get(index_field), int)
        if (
            has_part_index
            and type(index) is int
            and index == self.index
            and (has_item or event.get("item_id") == self.id)
        ):
            return {}
        address: dict[str, Any] = {**({} if has_item else {"item_id": self.id}), "output_index": self.index}
        return address | ({} if has_part_index else {index_field: 0})

    def close(self, payload: dict[str, Any]) -> None:
        """Merge the item of ``response.output_item.done`` with earlier events, and drop the parts."""
        streamed = self._build_from_parts() if self.parts else self.payload
        if not self._confirms(payload, streamed):
            payload = merge_versions(payload, self.payload)
            payload = merge_versions(payload, {**payload, **{field: streamed[field] for field, _ in self.parts}})
        self.payload, self.parts, self.is_closed = payload, {}, True

    def _confirms(self, payload: dict[str, Any], streamed: dict[str, Any]) -> bool:
        """Return whether a closed item is exactly what has been streamed, so that there is nothing to merge.

        :param streamed: the item as it began, with its parts.
        """
        status = payload.get("status")
        if status == "in_progress" or any(self.payload.get(field) for field, _ in self.parts):
            return False
        return payload == (streamed if status is None else {**streamed, "status": status})

    def build(self, open_status: str) -> dict[str, Any] | None:
        """Build the item for the response object.

        :param open_status: ``status`` for an item that was never closed.
        :returns: the item; None for a tool call whose name is missing, because no client can execute it.
        """
        item = dict(self.payload)
        if self.parts:
            item = {"status": open_status, **merge_versions(item, self._build_from_parts())}
            if item.get("type") in TOOL_CALL_TYPES and not item.get("name"):
                return None
        if item.get("status") == "in_progress":
            item["status"] = open_status
        return {**item, "id": self.id, **({"call_id": self.call_id} if self.call_id else {})}

    def _build_from_parts(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for (field, _), part in sorted(self.parts.items()):
            if not part.location.index_field:
                fields[field] = part.build()
            else:
                fields.setdefault(field, []).append(part.build())
        return {**self.payload, **fields}
