"""The output items of one response, put together from events whose ids and numbers cannot be trusted.

Upstreams repeat ``output_index`` and ids, leave items open, close them empty, and name other ids in the final
response. Here each item stands once. It is recognised by its id, else by its ``call_id``, else as the next of its type,
and of two versions the fuller one counts.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_ID_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "compaction": "cmp",
}

_WEIGHTLESS = frozenset(
    {"id", "type", "status", "role", "name", "call_id", "annotations", "logprobs", "encrypted_content"}
)
"""Fields that say nothing of how much an item holds: encrypted anew, the same content has another length."""


class Place(NamedTuple):
    """Where in an item the text of an event belongs."""

    item_type: str
    field: str
    index_name: str | None
    """The field of the event that says which part; None where the item's field is the text itself."""
    part_type: str = ""
    text: str = "text"
    """The field of the part that holds the text, and that of the event that ends it."""


_CONTENT, _SUMMARY = ("message", "content", "content_index"), ("reasoning", "summary", "summary_index")
_PLACES = {
    "output_text": Place(*_CONTENT, "output_text"),
    "refusal": Place(*_CONTENT, "refusal", "refusal"),
    "reasoning_text": Place("reasoning", "content", "content_index", "reasoning_text"),
    "reasoning_summary_text": Place(*_SUMMARY, "summary_text"),
    "function_call_arguments": Place("function_call", "arguments", None, text="arguments"),
    "custom_tool_call_input": Place("custom_tool_call", "input", None, text="input"),
    "mcp_call_arguments": Place("mcp_call", "arguments", None, text="arguments"),
    "code_interpreter_call_code": Place("code_interpreter_call", "code", None, text="code"),
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
        if self.place.index_name is None:
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

    __slots__ = ("announced", "closed", "id", "index", "parts", "payload")

    def __init__(self, payload: dict[str, Any], index: int, item_id: str | None) -> None:
        self.payload = payload
        """The item as it was said last."""
        self.index = index
        """Its ``output_index`` for the client."""
        self.id = item_id
        """Its id for the client; None where it has none."""
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

    def close(self, payload: dict[str, Any]) -> None:
        """Take the item as it is at its end, filled up with what its events have said before."""
        self.closed = True
        self.payload = _fuller(payload, self.payload)
        if self.parts:
            self.payload = _fuller(self.payload, self._from_parts())
            self.parts = {}

    def whole(self, status: str) -> dict[str, Any] | None:
        """The item with everything that was said of it; None for a call without a name, which nobody can use.

        :param status: of an item that was never closed.
        """
        item = dict(self.payload)
        if self.parts:
            item = {"status": status, **_fuller(item, self._from_parts())}
            if item.get("type") in ("function_call", "custom_tool_call"):
                if not item.get("name"):
                    return None
                item.setdefault("call_id", self.id)
        if item.get("status") == "in_progress":
            item["status"] = status
        if self.id is not None:
            item["id"] = self.id
        return item

    def _from_parts(self) -> dict[str, Any]:
        """The item as the events about its parts have it."""
        fields: dict[str, Any] = {}
        for (field, _), part in sorted(self.parts.items()):
            if part.place.index_name is None:
                fields[field] = part.value()
            else:
                fields.setdefault(field, []).append(part.value())
        return {**self.payload, **fields}


class OutputItems:
    """The output of a response while its events arrive."""

    def __init__(self, response_id: str) -> None:
        """:param response_id: the gateway's own, from which ids are made for items that need another."""
        self._response_id = response_id
        self._items: list[OutputItem] = []
        self._by_id: dict[str, OutputItem] = {}
        """By the upstream's id, the latest of each."""
        self._by_index: dict[int, OutputItem] = {}
        """By the upstream's ``output_index``, the latest of each."""

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, payload: dict[str, Any], index: object) -> OutputItem:
        """The item that ``response.output_item.added`` announces."""
        item = self._find_open(payload, index)
        if item is None:
            item = self._new(payload, index)
        else:
            item.payload = _fuller(item.payload, payload)
        item.announced = True
        return item

    def close(self, payload: dict[str, Any], index: object) -> OutputItem:
        """The item that ``response.output_item.done`` closes, with its content taken."""
        item = self._find_open(payload, index) or self._find_closed(payload, index) or self._new(payload, index)
        item.close(payload)
        return item

    def of_event(self, content: Mapping[str, Any], place: Place) -> OutputItem:
        """The item that an event about a part of an item is about."""
        item_id, index = content.get("item_id"), content.get("output_index")
        item = self._by_id.get(item_id) if isinstance(item_id, str) else None
        if item is None or item.closed:
            at_index = self._by_index.get(index) if isinstance(index, int) else None
            if at_index is not None and not at_index.closed and (item is None or at_index.id == item_id):
                return at_index
        if item is not None and (not item.closed or index in (None, item.index)):
            return item
        kind = place.item_type
        made = {"id": item_id, "type": kind} if isinstance(item_id, str) and item_id else {"type": kind}
        return self._new({**made, "role": "assistant"} if kind == "message" else made, index)

    def complete(self, final: Iterable[dict[str, Any]]) -> list[OutputItem]:
        """All items in order, when the terminal event has come.

        :param final: the output as the terminal event has it.
        """
        order = sorted(self._items, key=lambda item: item.index)
        position = 0
        for payload, item in self._matched(_without_repeated(final), list(order)):
            if item is None:
                item = self._new(payload, None)
                order.insert(position, item)
            else:
                item.payload = _fuller(item.payload, payload)
            position = order.index(item) + 1
        return order

    def _matched(
        self, final: Iterable[dict[str, Any]], unmatched: list[OutputItem]
    ) -> list[tuple[dict[str, Any], OutputItem | None]]:
        """The final items, each with the streamed one that it is."""
        pairs: list[tuple[dict[str, Any], OutputItem | None]] = [(payload, None) for payload in final]
        for is_same in (_same_id, _same_call, _same_content, _may_be_same):
            for place, (payload, item) in enumerate(pairs):
                if item is None:
                    found = next((one for one in unmatched if is_same(one.payload, payload)), None)
                    if found:
                        unmatched.remove(found)
                        pairs[place] = (payload, found)
        return pairs

    def _find_open(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        item = self._by_id.get(payload.get("id")) if isinstance(payload.get("id"), str) else None
        if item and not item.closed and _may_be_same(item.payload, payload):
            return item
        open_items = [one for one in self._items if not one.closed]
        for one in open_items:
            if _same_call(one.payload, payload):
                return one
        at_index = self._by_index.get(index) if isinstance(index, int) else None
        for one in (at_index, *open_items):
            if one and not one.closed and _may_be_same(one.payload, payload) and _one_lacks_an_id(one.payload, payload):
                return one
        if at_index and not at_index.closed and _may_be_same(at_index.payload, payload):
            return at_index
        return None

    def _find_closed(self, payload: dict[str, Any], index: object) -> OutputItem | None:
        """The item that is closed once more: the same id or call, and nothing that only another item could have."""
        for item in self._items:
            if _same_call(item.payload, payload) or (
                _same_id(item.payload, payload)
                and (index in (None, item.index) or _weight(payload) in (0, _weight(item.payload)))
            ):
                return item
        return None

    def _new(self, payload: dict[str, Any], index: object) -> OutputItem:
        known = payload.get("id")
        taken = {item.index for item in self._items}
        free = index if isinstance(index, int) and index >= 0 and index not in taken else max(taken, default=-1) + 1
        item_id = known if isinstance(known, str) and known else None
        if item_id is not None and any(item.id == item_id for item in self._items):
            prefix = _ID_PREFIXES.get(str(payload.get("type")), "item")
            item_id = f"{prefix}_{self._response_id.removeprefix('resp_')}_{free}"
        item = OutputItem(payload, free, item_id)
        self._items.append(item)
        if isinstance(known, str):
            self._by_id[known] = item
        if isinstance(index, int):
            self._by_index[index] = item
        return item


# ------------------------------------------------------------------------------------------------------- comparing
def _may_be_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    calls = one.get("call_id"), other.get("call_id")
    return one.get("type") == other.get("type") and (
        not all(isinstance(call, str) for call in calls) or calls[0] == calls[1]
    )


def _same_id(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return isinstance(one.get("id"), str) and one["id"] == other.get("id") and _may_be_same(one, other)


def _same_call(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return isinstance(one.get("call_id"), str) and one["call_id"] == other.get("call_id") and _may_be_same(one, other)


def _same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _may_be_same(one, other) and _content(one) == _content(other)


def _content(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in _WEIGHTLESS}


def _without_repeated(final: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of a final output, each once."""
    kept: list[dict[str, Any]] = []
    for payload in final:
        if not any(
            _same_call(one, payload) or (_same_id(one, payload) and _same_content(one, payload)) for one in kept
        ):
            kept.append(payload)
    return kept


def _one_lacks_an_id(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return not (isinstance(one.get("id"), str) and isinstance(other.get("id"), str))


def _fuller(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The one of two versions of an item that holds more, the first if both hold the same, with the fields that only
    the other has."""
    if first == second:
        return first
    winner, other = (first, second) if _weight(first) >= _weight(second) else (second, first)
    item = dict(winner)
    for name, value in other.items():
        if item.get(name) is None and value is not None and name != "status":  # that of an item that has begun
            item[name] = value
    if item.get("status") == "in_progress" and isinstance(other.get("status"), str):
        item["status"] = other["status"]
    return item


def _weight(value: Any) -> int:
    """How much a value says, in characters."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        blob = 1 if value.get("encrypted_content") else 0
        return blob + sum(_weight(part) for name, part in value.items() if name not in _WEIGHTLESS)
    if isinstance(value, list):
        return sum(map(_weight, value))
    return 0
