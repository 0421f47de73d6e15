"""The output items of one response, assembled from streaming events whose ids and indexes cannot be trusted.

Upstreams reuse an ``output_index`` or an id, leave items open, close them without content, and send other ids in the
final response. ``OutputItems`` contains each item once. It matches an event to an item by id, else by ``call_id``, else
by ``output_index`` or type. Of two versions of an item, the one with more content wins.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

from floway_core.protocol.item_versions import (
    MATCH_RULES,
    content_length,
    drop_repeats,
    get_call_id,
    get_id,
    has_same_id,
    is_same_call,
    item_text,
    lookup_key,
    may_be_same,
    may_be_same_text,
    merge_versions,
    normalize_item,
)
from floway_core.protocol.items import TOOL_CALL_TYPES, make_id
from floway_core.protocol.output_item import OutputItem
from floway_core.protocol.text_events import TextLocation


class OutputItems:
    """The output of one response while its events arrive.

    Indexes by id, call id, ``output_index`` and type make the time to find an item independent of their number.
    """

    def __init__(self, response_id: str) -> None:
        """:param response_id: the gateway's id of the response; new ids for items and calls end with it."""
        self._id_suffix = response_id.removeprefix("resp_") or "0"
        self._items: list[OutputItem] = []
        self._by_upstream_id: dict[str, OutputItem] = {}
        """The newest item with each id that the upstream used."""
        self._by_upstream_index: dict[int, OutputItem] = {}
        """The newest item at each ``output_index`` that the upstream used."""
        self._by_upstream_call_id: dict[str, OutputItem] = {}
        """The newest item with each call id that the upstream used."""
        self._open_items: dict[tuple[Any, ...], dict[int, OutputItem]] = {}
        """The items that are not closed, by ``OutputItem.lookup_key`` and ``index``."""
        self._unassigned_text: dict[TextLocation, bytearray] = {}
        """The text of deltas that name no item."""
        self._used_ids: set[str] = set()
        self._call_id_owners: dict[str, OutputItem] = {}
        """The item that keeps each call id of the upstream."""
        self._used_ranks: set[int] = set()
        self._next_rank = 0

    def __bool__(self) -> bool:
        """Return whether any item has started."""
        return bool(self._items)

    def open_item(self, payload: dict[str, Any], index: object) -> OutputItem:
        """Return the item of a ``response.output_item.added`` event; add it if it is new.

        :param payload: in the form of ``normalize_item``.
        """
        item = self._find_open(payload, index)
        if item is None:
            return self._add_item(payload, index)
        self._update_open_item(item, merge_versions(item.payload, payload))
        return item

    def close_item(self, payload: dict[str, Any], index: object) -> OutputItem:
        """Close the item of a ``response.output_item.done`` event, and return it; add it if it is new.

        :param payload: in the form of ``normalize_item``.
        """
        item = self._find_open(payload, index) or self._find_closed(payload, index) or self._add_item(payload, index)
        self._open_items.get(item.lookup_key, {}).pop(item.index, None)
        item.close(payload)
        self._assign_call_id(item)
        return item

    def find_or_add(self, event: Mapping[str, Any], location: TextLocation) -> OutputItem | None:
        """Return the item of a text or part event; add it if it was not announced.

        :returns: None for an event with neither ``item_id`` nor ``output_index``.
        """
        item_id, index = event.get("item_id"), event.get("output_index")
        item = self._by_upstream_id.get(item_id) if isinstance(item_id, str) else None
        if item is not None and not item.is_closed:  # nearly always
            return item
        if not isinstance(item_id, str) and not isinstance(index, int):
            return None
        at_index = self._by_upstream_index.get(index) if isinstance(index, int) else None
        if at_index is not None and not at_index.is_closed and (item is None or at_index.id == item_id):
            return at_index
        if item is not None and index in (None, item.upstream_index):
            return item
        item_type = location.item_type
        payload = {"id": item_id, "type": item_type} if isinstance(item_id, str) and item_id else {"type": item_type}
        return self._add_item(normalize_item(payload), index)

    def add_unassigned(self, location: TextLocation, delta: object) -> None:
        """Store a delta that names no item. It is used only if no item of this type has other content."""
        if isinstance(delta, str):
            self._unassigned_text.setdefault(location, bytearray()).extend(delta.encode("utf-8", "surrogatepass"))

    def _assign_text(self, items: list[OutputItem]) -> None:
        """Assign the text of deltas that name no item to the last item of its type, if no such item has content.

        :param items: all items in their order; a new item is added at the end.
        """
        for location, text in self._unassigned_text.items():
            same_type = [item for item in items if item.payload.get("type") == location.item_type]
            if any(item.parts or item.payload.get(location.item_field) for item in same_type):
                continue
            if not same_type:
                same_type = [self._add_item(normalize_item({"type": location.item_type}), None)]
                items += same_type
            same_type[-1].get_part(location, None).text[:] = text

    def build_all(self, open_status: str, *, closed_only: bool = False) -> list[dict[str, Any]]:
        """Return the items of an incomplete response.

        :param open_status: for items that are not closed.
        :param closed_only: whether to omit items that are not closed.
        """
        items = [item for item in self.merge_final([]) if item.is_closed or not closed_only]
        return [payload for item in items if (payload := item.build(open_status)) is not None]

    def merge_final(self, final_output: list[dict[str, Any]]) -> list[OutputItem]:
        """Merge in the output of the terminal event.

        :param final_output: ``output`` of the response object in the terminal event.
        :returns: all items in their order. An item that was not streamed follows its predecessor in
            ``final_output``.
        """
        items = sorted(self._items, key=lambda item: item.rank)
        if not _confirms(items, final_output):
            items = self._merge_differing(items, drop_repeats(map(normalize_item, final_output)))
        self._assign_text(items)
        for item in items:
            self._assign_call_id(item)
        return items

    def _merge_differing(self, items: list[OutputItem], final_output: list[dict[str, Any]]) -> list[OutputItem]:
        """Merge in a final output that is not exactly what has been streamed; return all items in their order."""
        not_streamed: dict[int | None, list[OutputItem]] = {}  # by ``index`` of the predecessor
        predecessor = None
        for payload, item in self._match_final(final_output, items):
            if item is None:
                not_streamed.setdefault(predecessor, []).append(self._add_item(payload, None))
            else:
                item.payload = merge_versions(item.payload, payload)
                predecessor = item.index
        return [
            *not_streamed.get(None, []),
            *(entry for item in items for entry in (item, *not_streamed.get(item.index, []))),
        ]

    def _match_final(
        self, final_output: list[dict[str, Any]], items: list[OutputItem]
    ) -> list[tuple[dict[str, Any], OutputItem | None]]:
        """Pair each item of the final output with its streamed version, by the strongest evidence first."""
        pairs: list[tuple[dict[str, Any], OutputItem | None]] = [(payload, None) for payload in final_output]
        if not items or not pairs:  # the upstream has not streamed, or only streamed
            return pairs
        for key_of, is_same in MATCH_RULES:
            matched = {item.index for _, item in pairs if item}
            unmatched: dict[Any, deque[OutputItem]] = {}
            for item in items:
                if item.index not in matched and (key := key_of(item.payload)) is not None:
                    unmatched.setdefault(key, deque()).append(item)
            for position, (payload, match) in enumerate(pairs):
                candidates = unmatched.get(key_of(payload)) if match is None else None
                if candidates and is_same(candidates[0].payload, payload):
                    pairs[position] = (payload, candidates.popleft())
        return pairs

    def _find_open(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        """Find the open item with this id, else with this call id, else at this index, else the first possible one."""
        if not any(self._open_items.values()):
            return None
        item = self._by_upstream_id.get(str(payload["id"])) if isinstance(payload.get("id"), str) else None
        if item and not item.is_closed and may_be_same(item.payload, payload):
            return item
        item = self._by_upstream_call_id.get(payload["call_id"]) if get_call_id(payload) else None
        if item and not item.is_closed and is_same_call(item.payload, payload):
            return item
        at_index = self._by_upstream_index.get(index) if isinstance(index, int) else None
        if at_index and (at_index.is_closed or not may_be_same(at_index.payload, payload)):
            at_index = None
        if at_index and not (at_index.lookup_key[2] and lookup_key(payload)[2]):  # not both have an id
            return at_index
        item_type, has_call_id, has_id = lookup_key(payload)
        keys = [(item_type, False, False), *([] if has_call_id else [(item_type, True, False)])]
        keys += [] if has_id else [(item_type, with_call_id, True) for _, with_call_id, _ in keys]
        candidates = [next(iter(self._open_items[key].values())) for key in keys if self._open_items.get(key)]
        return min(candidates, key=lambda item: item.index, default=at_index)

    def _find_closed(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        """Find the item that is closed again: the same call, or the same id without evidence of another item."""
        item = self._by_upstream_call_id.get(payload["call_id"]) if get_call_id(payload) else None
        if item and is_same_call(item.payload, payload):
            return item
        item = self._by_upstream_id.get(str(payload["id"])) if isinstance(payload.get("id"), str) else None
        if (
            item
            and has_same_id(item.payload, payload)
            and may_be_same_text(item_text(item.payload), item_text(payload))
        ):
            has_same_index = index in (None, item.upstream_index)
            return item if has_same_index or content_length(payload) in (0, content_length(item.payload)) else None
        return None

    def _add_item(self, payload: dict[str, Any], index: object) -> OutputItem:
        """Add an item, with the upstream's index as its rank and the upstream's id if these are free, else new ones."""
        own_index = len(self._items)
        is_free = isinstance(index, int) and index >= 0 and index not in self._used_ranks
        rank = int(index) if isinstance(index, int) and is_free else self._next_rank
        self._used_ranks.add(rank)
        self._next_rank = max(self._next_rank, rank + 1)
        upstream_id = payload.get("id")
        item_id = upstream_id if isinstance(upstream_id, str) else ""
        if not item_id or item_id in self._used_ids:
            item_id = make_id(str(payload.get("type")), f"{self._id_suffix}_{own_index}")
        self._used_ids.add(item_id)
        item = OutputItem(payload, own_index, item_id, rank, index)
        self._items.append(item)
        self._index_open_item(item)
        if isinstance(index, int):
            self._by_upstream_index[index] = item
        return item

    def _update_open_item(self, item: OutputItem, payload: dict[str, Any]) -> None:
        """Replace the payload of an open item, and update the indexes."""
        self._open_items.get(item.lookup_key, {}).pop(item.index, None)
        item.payload, item.lookup_key = payload, lookup_key(payload)
        self._index_open_item(item)

    def _index_open_item(self, item: OutputItem) -> None:
        """Let an open item be found by its payload."""
        payload = item.payload
        self._open_items.setdefault(item.lookup_key, {})[item.index] = item
        if isinstance(payload.get("id"), str):
            self._by_upstream_id[payload["id"]] = item
        if get_call_id(payload):
            self._by_upstream_call_id[payload["call_id"]] = item

    def _assign_call_id(self, item: OutputItem) -> None:
        """Assign a new call id to a complete tool call without one, or with the id of another call."""
        if item.payload.get("type") not in TOOL_CALL_TYPES or item.call_id:
            return
        if not get_call_id(item.payload):
            item.call_id = f"call_{self._id_suffix}_{item.index}"
            return
        call_id = item.payload["call_id"]
        if self._call_id_owners.setdefault(call_id, item) is not item:
            item.call_id = f"call_{self._id_suffix}_{item.index}"


def _confirms(items: list[OutputItem], final_output: list[dict[str, Any]]) -> bool:
    """Return whether a final output is exactly what has been streamed, so that there is nothing to match and to merge.

    All items have different ids and call ids: otherwise the rules for repeated ones apply.

    :param items: in their order.
    """
    payloads = [item.payload for item in items]
    if payloads != final_output:
        return False
    ids = set(map(get_id, payloads))
    if len(ids) != len(payloads) or None in ids:
        return False
    call_ids = list(filter(None, map(get_call_id, payloads)))
    return len(set(call_ids)) == len(call_ids)
