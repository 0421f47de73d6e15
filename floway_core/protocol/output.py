"""The output items of one response, put together from events whose ids and numbers cannot be trusted.

Upstreams repeat ``output_index`` and ids, leave items open, close them empty, and name other ids in the final
response. Here each item stands once. It is recognised by its id, else by its ``call_id``, else as the next of its type,
and of two versions the fuller one counts.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from floway_core.protocol.versions import (
    CALLS,
    RECOGNITION,
    agree,
    call_key,
    fuller,
    in_form,
    kind_of,
    may_be_same,
    said,
    same_call,
    same_id,
    weight,
    without_repeated,
)

_ID_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "compaction": "cmp",
}


class Place(NamedTuple):
    """Where in an item the text of an event belongs."""

    item_type: str
    field: str
    index_name: str
    """The field of the event that says which part; empty where the item's field is the text itself."""
    part_type: str = ""
    text: str = "text"
    """The field of the part that holds the text, and that of the event that ends it."""


_CONTENT, _SUMMARY = ("message", "content", "content_index"), ("reasoning", "summary", "summary_index")
_PLACES = {
    "output_text": Place(*_CONTENT, "output_text"),
    "refusal": Place(*_CONTENT, "refusal", "refusal"),
    "reasoning_text": Place("reasoning", "content", "content_index", "reasoning_text"),
    "reasoning_summary_text": Place(*_SUMMARY, "summary_text"),
    "function_call_arguments": Place("function_call", "arguments", "", text="arguments"),
    "custom_tool_call_input": Place("custom_tool_call", "input", "", text="input"),
    "mcp_call_arguments": Place("mcp_call", "arguments", "", text="arguments"),
    "code_interpreter_call_code": Place("code_interpreter_call", "code", "", text="code"),
}
DELTAS = {f"response.{name}.delta": place for name, place in _PLACES.items()}
TEXTS = {f"response.{name}.done": place for name, place in _PLACES.items()}
PARTS = {
    f"response.{name}.{end}": place
    for name, place in {"content_part": Place(*_CONTENT), "reasoning_summary_part": Place(*_SUMMARY)}.items()
    for end in ("added", "done")
}


class _Part:
    """A part of an item: what its events have said so far."""

    __slots__ = ("payload", "place", "text")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.text = bytearray()
        """UTF-8: a fraction of what the deltas take as strings."""
        self.payload: dict[str, Any] = {}

    def value(self) -> dict[str, Any] | str:
        text = self.text.decode("utf-8", "surrogatepass")
        if not text.isascii():  # a character may have been cut in two
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not self.place.index_name:
            return text
        part = {"type": self.place.part_type or "output_text", **self.payload}
        whole = part.get(self.place.text)
        if text and (not isinstance(whole, str) or len(text) > len(whole)):
            part[self.place.text] = text
        if part["type"] == "output_text":
            part.setdefault("annotations", [])
        return part


class OutputItem:
    """One item of the output, from the first event about it on."""

    __slots__ = ("announced", "call_id", "closed", "id", "index", "kind", "parts", "payload", "rank", "upstream_index")

    def __init__(self, payload: dict[str, Any], index: int, item_id: str, rank: int, upstream_index: object) -> None:
        self.payload = payload
        """The item as it was said last."""
        self.index = index
        """Its ``output_index`` for the client: items are counted as they come, since clients make a list of them."""
        self.id = item_id
        """Its id for the client."""
        self.rank = rank
        """Its place in the order of the final output."""
        self.upstream_index = upstream_index
        self.call_id: str | None = None
        """Its call id for the client, where the upstream gave none, or one that another call has."""
        self.kind = kind_of(payload)
        self.announced = False
        """Whether the client has seen ``response.output_item.added``."""
        self.closed = False
        """Whether the client has seen ``response.output_item.done``."""
        self.parts: dict[tuple[str, int], _Part] = {}

    def part(self, place: Place, number: object) -> _Part:
        key = (place.field, number if isinstance(number, int) else 0)
        if key not in self.parts:
            self.parts[key] = _Part(place)
        return self.parts[key]

    def has_part(self, place: Place, number: object) -> bool:
        """Whether something was said of that part."""
        return (place.field, number if isinstance(number, int) else 0) in self.parts

    def close(self, payload: dict[str, Any]) -> None:
        """Take the item as it is at its end, filled up with what its events have said before."""
        self.payload = fuller(payload, self.payload)
        if self.parts:
            self.payload = fuller(self.payload, self._from_parts())
            self.parts = {}
        self.closed = True

    def whole(self, status: str) -> dict[str, Any] | None:
        """The item with everything that was said of it; None for a call without a name, which nobody can use.

        :param status: of an item that was never closed.
        """
        item = dict(self.payload)
        if self.parts:
            item = {"status": status, **fuller(item, self._from_parts())}
            if item.get("type") in CALLS and not item.get("name"):
                return None
        if item.get("status") == "in_progress":
            item["status"] = status
        return {**item, "id": self.id, **({"call_id": self.call_id} if self.call_id else {})}

    def _from_parts(self) -> dict[str, Any]:
        """The item as the events about its parts have it."""
        fields: dict[str, Any] = {}
        for (field, _), part in sorted(self.parts.items()):
            if not part.place.index_name:
                fields[field] = part.value()
            else:
                fields.setdefault(field, []).append(part.value())
        return {**self.payload, **fields}


class OutputItems:
    """The output of a response while its events arrive. Finding an item takes the same time however many there are."""

    def __init__(self, response_id: str) -> None:
        """:param response_id: the gateway's own, from which ids are made for items that need another."""
        self._suffix = response_id.removeprefix("resp_") or "0"
        self._items: list[OutputItem] = []
        self._by_id: dict[str, OutputItem] = {}
        """By the upstream's id, the latest of each."""
        self._by_index: dict[int, OutputItem] = {}
        """By the upstream's ``output_index``, the latest of each."""
        self._by_call: dict[str, OutputItem] = {}
        """By the upstream's call id, the latest of each."""
        self._open: dict[tuple[Any, ...], dict[int, OutputItem]] = {}
        """Those that are not closed, by ``OutputItem.kind`` and ``index``."""
        self._loose: dict[Place, bytearray] = {}
        """The text of deltas that do not say what they are about."""
        self._ids: set[str] = set()
        self._calls: dict[str, OutputItem] = {}
        """Whose each call id is."""
        self._ranks: set[int] = set()
        self._next_rank = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, payload: dict[str, Any], index: object) -> OutputItem:
        """The item that ``response.output_item.added`` announces."""
        payload = in_form(payload)
        item = self._find_open(payload, index)
        if item is None:
            return self._new(payload, index)
        self._change(item, fuller(item.payload, payload))
        return item

    def close(self, payload: dict[str, Any], index: object) -> OutputItem:
        """The item that ``response.output_item.done`` closes, with its content taken."""
        payload = in_form(payload)
        item = self._find_open(payload, index) or self._find_closed(payload, index) or self._new(payload, index)
        self._open.get(item.kind, {}).pop(item.index, None)
        item.close(payload)
        self._note_call(item)
        return item

    def of_event(self, content: Mapping[str, Any], place: Place) -> OutputItem | None:
        """The item that an event about a part of an item is about; None where it does not say which."""
        item_id, index = content.get("item_id"), content.get("output_index")
        kind = place.item_type
        if not isinstance(item_id, str) and not isinstance(index, int):
            return None
        item = self._by_id.get(item_id) if isinstance(item_id, str) else None
        if item is None or item.closed:
            at_index = self._by_index.get(index) if isinstance(index, int) else None
            if at_index is not None and not at_index.closed and (item is None or at_index.id == item_id):
                return at_index
        if item is not None and (not item.closed or index in (None, item.upstream_index)):
            return item
        made = {"id": item_id, "type": kind} if isinstance(item_id, str) and item_id else {"type": kind}
        return self._new(in_form(made), index)

    def add_loose(self, place: Place, delta: object) -> None:
        """Note a delta that does not say what it is about. It counts only where nothing else says anything."""
        if isinstance(delta, str):
            self._loose.setdefault(place, bytearray()).extend(delta.encode("utf-8", "surrogatepass"))

    def _place_loose(self, order: list[OutputItem]) -> None:
        for place, text in self._loose.items():
            same_type = [item for item in order if item.payload.get("type") == place.item_type]
            if any(item.parts or item.payload.get(place.field) for item in same_type):
                continue
            if not same_type:
                same_type = [self._new(in_form({"type": place.item_type}), None)]
                order += same_type
            same_type[-1].part(place, None).text[:] = text

    def complete(self, final: Iterable[dict[str, Any]]) -> list[OutputItem]:
        """All items in order, when the terminal event has come.

        :param final: the output as the terminal event has it.
        """
        order = sorted(self._items, key=lambda item: item.rank)
        behind: dict[int | None, list[OutputItem]] = {}
        before = None
        for payload, item in self._matched(without_repeated(map(in_form, final)), order):
            if item is None:
                behind.setdefault(before, []).append(self._new(payload, None))
            else:
                item.payload = fuller(item.payload, payload)
                before = item.index
        order = [*behind.get(None, []), *(one for item in order for one in (item, *behind.get(item.index, [])))]
        self._place_loose(order)
        for item in order:
            self._note_call(item)
        return order

    def _matched(
        self, final: list[dict[str, Any]], items: list[OutputItem]
    ) -> list[tuple[dict[str, Any], OutputItem | None]]:
        """The final items, each with the streamed one that it is."""
        pairs: list[tuple[dict[str, Any], OutputItem | None]] = [(payload, None) for payload in final]
        for key_of, is_same in RECOGNITION:
            matched = {item.index for _, item in pairs if item}
            waiting: dict[Any, deque[OutputItem]] = {}
            for item in items:
                if item.index not in matched and (key := key_of(item.payload)) is not None:
                    waiting.setdefault(key, deque()).append(item)
            for place, (payload, match) in enumerate(pairs):
                queue = waiting.get(key_of(payload)) if match is None else None
                if queue and is_same(queue[0].payload, payload):
                    pairs[place] = (payload, queue.popleft())
        return pairs

    def _find_open(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        item = self._by_id.get(str(payload["id"])) if isinstance(payload.get("id"), str) else None
        if item and not item.closed and may_be_same(item.payload, payload):
            return item
        item = self._by_call.get(payload["call_id"]) if call_key(payload) else None
        if item and not item.closed and same_call(item.payload, payload):
            return item
        at_index = self._by_index.get(index) if isinstance(index, int) else None
        if at_index and (at_index.closed or not may_be_same(at_index.payload, payload)):
            at_index = None
        if at_index and not (at_index.kind[2] and kind_of(payload)[2]):
            return at_index
        kind, has_call, has_id = kind_of(payload)
        kinds = [(kind, False, False), *([] if has_call else [(kind, True, False)])]
        kinds += [] if has_id else [(kind, call, True) for _, call, _ in kinds]
        candidates = [next(iter(self._open[one].values())) for one in kinds if self._open.get(one)]
        return min(candidates, key=lambda item: item.index, default=at_index)

    def _find_closed(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        """The item that is closed once more: the same id or call, and nothing that only another item could have."""
        item = self._by_call.get(payload["call_id"]) if call_key(payload) else None
        if item and same_call(item.payload, payload):
            return item
        item = self._by_id.get(str(payload["id"])) if isinstance(payload.get("id"), str) else None
        if item and same_id(item.payload, payload) and agree(said(item.payload), said(payload)):
            same_place = index in (None, item.upstream_index)
            return item if same_place or weight(payload) in (0, weight(item.payload)) else None
        return None

    def _new(self, payload: dict[str, Any], index: object) -> OutputItem:
        place = len(self._items)
        is_free = isinstance(index, int) and index >= 0 and index not in self._ranks
        rank = int(index) if isinstance(index, int) and is_free else self._next_rank
        self._ranks.add(rank)
        self._next_rank = max(self._next_rank, rank + 1)
        given = payload.get("id")
        item_id = given if isinstance(given, str) else ""
        if not item_id or item_id in self._ids:
            item_id = f"{_ID_PREFIXES.get(str(payload.get('type')), 'item')}_{self._suffix}_{place}"
        self._ids.add(item_id)
        item = OutputItem(payload, place, item_id, rank, index)
        self._items.append(item)
        self._change(item, payload)
        if isinstance(index, int):
            self._by_index[index] = item
        return item

    def _change(self, item: OutputItem, payload: dict[str, Any]) -> None:
        """Note an open item as it is now."""
        self._open.get(item.kind, {}).pop(item.index, None)
        item.payload, item.kind = payload, kind_of(payload)
        self._open.setdefault(item.kind, {})[item.index] = item
        if isinstance(payload.get("id"), str):
            self._by_id[payload["id"]] = item
        if call_key(payload):
            self._by_call[payload["call_id"]] = item

    def _note_call(self, item: OutputItem) -> None:
        """Give a call that is complete an id of its own, where the upstream did not."""
        if item.payload.get("type") not in CALLS or item.call_id:
            return
        if not call_key(item.payload):
            item.call_id = f"call_{self._suffix}_{item.index}"
            return
        call_id = item.payload["call_id"]
        if self._calls.setdefault(call_id, item) is not item:
            item.call_id = f"call_{self._suffix}_{item.index}"
