"""The output items of one response, assembled from streaming events whose ids and indexes cannot be trusted.

Upstreams reuse an ``output_index`` or an id, leave items open, close them without content, and send other ids in the
final response. ``OutputItems`` holds each item once. It matches an event to an item by id, then by ``call_id``, then by
``output_index`` and type. Of two versions of an item, the one with more content wins.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from floway_core.protocol.item_versions import (
    content_length,
    drop_repeats,
    has_same_content,
    has_same_id,
    is_same_call,
    lacks_id,
    may_be_same,
    merge_versions,
)
from floway_core.protocol.text_events import TextLocation

_ID_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "compaction": "cmp",
}


class ItemPart:
    """One part of an item, or the one text field of a tool call, as its events have described it so far."""

    __slots__ = ("location", "payload", "text")

    def __init__(self, location: TextLocation) -> None:
        self.location = location
        self.text = bytearray()
        """The text so far, in UTF-8: this takes a fraction of the memory of a list of strings."""
        self.payload: dict[str, Any] = {}
        """The part as an event carried it as a whole."""

    def build(self) -> dict[str, Any] | str:
        """Return the part as an object, or the text if the item's field is the text itself."""
        text = self.text.decode("utf-8", "surrogatepass")
        if not text.isascii():  # two deltas may each carry one half of a surrogate pair
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if self.location.index_field is None:
            return text
        part = {"type": self.location.part_type or "output_text", **self.payload}
        stated_text = part.get(self.location.text_field)
        if text and (not isinstance(stated_text, str) or len(text) > len(stated_text)):
            part[self.location.text_field] = text
        if part["type"] == "output_text":
            part.setdefault("annotations", [])
        return part


class OutputItem:
    """One output item, from the first event about it on."""

    __slots__ = ("id", "index", "is_announced", "is_closed", "parts", "payload")

    def __init__(self, payload: dict[str, Any], index: int, item_id: str | None) -> None:
        self.payload = payload
        """The item as ``output_item`` events carried it."""
        self.index = index
        """Its ``output_index`` in the events that the client sees."""
        self.id = item_id
        """Its id in the events that the client sees; None if it has none."""
        self.is_announced = False
        """Whether the client has seen ``response.output_item.added``."""
        self.is_closed = False
        """Whether the client has seen ``response.output_item.done``."""
        self.parts: dict[tuple[str, int], ItemPart] = {}
        """The parts of an open item, by field of the item and index of the part."""

    def get_part(self, location: TextLocation, event: Mapping[str, Any]) -> ItemPart:
        """Return the part that an event is about; create it if it is new."""
        key = (location.item_field, location.part_index(event))
        if key not in self.parts:
            self.parts[key] = ItemPart(location)
        return self.parts[key]

    def close(self, payload: dict[str, Any]) -> None:
        """Merge the item of ``response.output_item.done`` with what earlier events sent, and drop the parts."""
        self.is_closed = True
        self.payload = merge_versions(payload, self.payload)
        if self.parts:
            self.payload = merge_versions(self.payload, self._build_from_parts())
            self.parts = {}

    def build(self, open_status: str) -> dict[str, Any] | None:
        """Build the item as the response object shows it.

        :param open_status: ``status`` for an item that was never closed.
        :returns: the item; None for a tool call whose name is missing, because no client can execute it.
        """
        item = dict(self.payload)
        if self.parts:
            item = {"status": open_status, **merge_versions(item, self._build_from_parts())}
            if item.get("type") in ("function_call", "custom_tool_call"):
                if not item.get("name"):
                    return None
                item.setdefault("call_id", self.id)
        if item.get("status") == "in_progress":
            item["status"] = open_status
        if self.id is not None:
            item["id"] = self.id
        return item

    def _build_from_parts(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for (field, _), part in sorted(self.parts.items(), key=lambda entry: entry[0]):
            if part.location.index_field is None:
                fields[field] = part.build()
            else:
                fields.setdefault(field, []).append(part.build())
        return {**self.payload, **fields}


class OutputItems:
    """The output of one response while its events arrive."""

    def __init__(self, response_id: str) -> None:
        """:param response_id: the gateway's id of the response; new ids for items contain it."""
        self._response_id = response_id
        self._items: list[OutputItem] = []
        self._by_upstream_id: dict[str, OutputItem] = {}
        """The newest item with each id that the upstream used."""
        self._by_upstream_index: dict[int, OutputItem] = {}
        """The newest item at each ``output_index`` that the upstream used."""

    def __bool__(self) -> bool:
        """Return whether any item has begun."""
        return bool(self._items)

    def open_item(self, payload: dict[str, Any], index: object) -> OutputItem:
        """Return the item that ``response.output_item.added`` announces; add it if it is new."""
        item = self._find_open(payload, index)
        if item is None:
            item = self._add_item(payload, index)
        else:
            item.payload = merge_versions(item.payload, payload)
        item.is_announced = True
        return item

    def close_item(self, payload: dict[str, Any], index: object) -> OutputItem:
        """Close the item that ``response.output_item.done`` is about, and return it; add it if it is new."""
        item = self._find_open(payload, index) or self._find_closed(payload, index) or self._add_item(payload, index)
        item.close(payload)
        return item

    def find_or_add(self, event: Mapping[str, Any], location: TextLocation) -> OutputItem | None:
        """Return the item that a text or part event is about; add it if it was not announced.

        :returns: None for an event with neither ``item_id`` nor ``output_index``.
        """
        item_id, index = event.get("item_id"), event.get("output_index")
        if not isinstance(item_id, str) and not isinstance(index, int):
            return None
        item = self._by_upstream_id.get(item_id) if isinstance(item_id, str) else None
        if item is None or item.is_closed:
            at_index = self._by_upstream_index.get(index) if isinstance(index, int) else None
            if at_index is not None and not at_index.is_closed and (item is None or at_index.id == item_id):
                return at_index
        if item is not None and (not item.is_closed or index in (None, item.index)):
            return item
        payload: dict[str, Any] = {"type": location.item_type}
        if isinstance(item_id, str) and item_id:
            payload = {"id": item_id, **payload}
        if location.item_type == "message":
            payload["role"] = "assistant"
        return self._add_item(payload, index)

    def merge_final(self, final_output: Iterable[dict[str, Any]]) -> list[OutputItem]:
        """Merge in the output of the terminal event.

        :param final_output: ``output`` of the response object in the terminal event.
        :returns: all items in their order. An item that was not streamed stands behind its predecessor in
            ``final_output``.
        """
        merged = sorted(self._items, key=lambda item: item.index)
        position = 0
        for payload, item in _match_final(drop_repeats(final_output), list(merged)):
            if item is None:
                item = self._add_item(payload, None)
                merged.insert(position, item)
            else:
                item.payload = merge_versions(item.payload, payload)
            position = merged.index(item) + 1
        return merged

    def _find_open(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        """Find the open item with this id, else with this call id, else the one that this can be."""
        item_id = payload.get("id")
        item = self._by_upstream_id.get(item_id) if isinstance(item_id, str) else None
        if item and not item.is_closed and may_be_same(item.payload, payload):
            return item
        open_items = [item for item in self._items if not item.is_closed]
        for item in open_items:
            if is_same_call(item.payload, payload):
                return item
        at_index = self._by_upstream_index.get(index) if isinstance(index, int) else None
        if at_index and at_index.is_closed:
            at_index = None
        for candidate in (at_index, *open_items):
            if candidate and may_be_same(candidate.payload, payload) and lacks_id(candidate.payload, payload):
                return candidate
        if at_index and may_be_same(at_index.payload, payload):
            return at_index
        return None

    def _find_closed(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        """Find the item that is being closed again: the same call, or the same id without a sign of another item."""
        for item in self._items:
            if is_same_call(item.payload, payload):
                return item
            if has_same_id(item.payload, payload) and (
                index in (None, item.index) or content_length(payload) in (0, content_length(item.payload))
            ):
                return item
        return None

    def _add_item(self, payload: dict[str, Any], index: object) -> OutputItem:
        """Add an item with the upstream's index and id if these are free, else with new ones."""
        used_indexes = {item.index for item in self._items}
        if isinstance(index, int) and index >= 0 and index not in used_indexes:
            own_index = index
        else:
            own_index = max(used_indexes, default=-1) + 1
        upstream_id = payload.get("id")
        own_id = upstream_id if isinstance(upstream_id, str) and upstream_id else None
        if own_id is not None and any(item.id == own_id for item in self._items):
            prefix = _ID_PREFIXES.get(str(payload.get("type")), "item")
            own_id = f"{prefix}_{self._response_id.removeprefix('resp_')}_{own_index}"
        item = OutputItem(payload, own_index, own_id)
        self._items.append(item)
        if isinstance(upstream_id, str):
            self._by_upstream_id[upstream_id] = item
        if isinstance(index, int):
            self._by_upstream_index[index] = item
        return item


def _match_final(
    final_output: list[dict[str, Any]], unmatched: list[OutputItem]
) -> list[tuple[dict[str, Any], OutputItem | None]]:
    """Pair each item of the final output with the streamed item that it is, the strongest evidence first.

    :param unmatched: the streamed items; those that are matched are removed.
    """
    matches: list[OutputItem | None] = [None] * len(final_output)
    for is_same in (has_same_id, is_same_call, has_same_content, may_be_same):
        for position, payload in enumerate(final_output):
            if matches[position] is None:
                match = next((item for item in unmatched if is_same(item.payload, payload)), None)
                if match is not None:
                    unmatched.remove(match)
                    matches[position] = match
    return list(zip(final_output, matches, strict=True))
