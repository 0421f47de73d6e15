"""Compare and merge two versions of an output item, such as a streamed one and the one in the final response."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from floway_core.protocol import jsontext

_NOT_CONTENT = frozenset(
    {"id", "type", "status", "role", "name", "call_id", "annotations", "logprobs", "encrypted_content"}
)
"""Fields that do not count as content. ``encrypted_content`` does not because its length depends on the encryption."""


_PART_LISTS: dict[str, tuple[str, dict[str, Any]]] = {
    "message": ("content", {"type": "output_text", "annotations": []}),
    "reasoning": ("summary", {"type": "summary_text"}),
}
"""By item type: the field with the list of parts, and the part to wrap a plain text in."""

_TEXT_FIELDS = {"function_call": "arguments", "custom_tool_call": "input"}
"""By item type: the field that must be a text."""


def normalize_item(item: dict[str, Any]) -> dict[str, Any]:
    """Give an item the form that clients rely on.

    A message gets a role and a list of parts, reasoning gets a list of summary parts, and the arguments of a tool call
    become a text.

    :returns: a copy, or the same object if nothing changes.
    """
    item_type = str(item.get("type"))
    changes: dict[str, Any] = {}
    if item_type in _PART_LISTS:
        field, empty_part = _PART_LISTS[item_type]
        parts = item.get(field)
        part_list: list[Any] = parts if isinstance(parts, list) else [parts]
        if part_list is not parts or not all(isinstance(part, dict) for part in part_list):
            parts = [{**empty_part, "text": part} if isinstance(part, str) else part for part in part_list]
            changes[field] = [part for part in parts if isinstance(part, dict)]
    if item_type == "message" and not item.get("role"):
        changes["role"] = "assistant"
    if item_type in _TEXT_FIELDS and isinstance(value := item.get(_TEXT_FIELDS[item_type]), dict | list):
        changes[_TEXT_FIELDS[item_type]] = jsontext.dumps(value).decode()
    return {**item, **changes} if changes else item


def is_empty_message(item: Mapping[str, Any]) -> bool:
    """Return whether an item is a message without content."""
    return item.get("type") == "message" and not item.get("content")


def lookup_key(item: Mapping[str, Any]) -> tuple[str, bool, bool]:
    """Return the key for looking up open items: the type, whether the item has a call id, and whether it has an id."""
    return str(item.get("type")), get_call_id(item) is not None, isinstance(item.get("id"), str)


def get_call_id(item: Mapping[str, Any]) -> str | None:
    """Return the ``call_id`` of an item; None if it has none or an invalid one."""
    call_id = item.get("call_id")
    return call_id if isinstance(call_id, str) and call_id else None


def may_be_same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether these may be the same item: equal types and, if both have one, equal call ids."""
    call_ids = get_call_id(first), get_call_id(second)
    return first.get("type") == second.get("type") and (None in call_ids or call_ids[0] == call_ids[1])


def has_same_id(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether both have the same id and may be the same item."""
    return isinstance(first.get("id"), str) and first["id"] == second.get("id") and may_be_same(first, second)


def is_same_call(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether both are the same tool call.

    An equal ``call_id`` is not enough: some upstreams give all calls of a response the same one.
    """
    names = first.get("name"), second.get("name")
    return (
        get_call_id(first) is not None
        and may_be_same(first, second)
        and (not all(names) or names[0] == names[1])
        and may_be_same_text(item_text(first), item_text(second))
    )


def item_text(item: Mapping[str, Any]) -> str:
    """Return all text of an item, joined; for a tool call its arguments."""
    texts = [text for field in ("arguments", "input") if isinstance(text := item.get(field), str)]
    for field in ("summary", "content"):
        if isinstance(parts := item.get(field), list):
            texts += [text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str)]
    return "".join(texts).strip()


def may_be_same_text(first: str, second: str) -> bool:
    """Return whether two texts may be versions of one: one starts with the other, or both are the same JSON value.

    ``{}`` may be a version of any text: it counts as unfinished arguments.
    """
    if first.startswith(second) or second.startswith(first) or "{}" in (first, second):
        return True
    try:
        return bool(
            jsontext.loads(first.encode("utf-8", "replace")) == jsontext.loads(second.encode("utf-8", "replace"))
        )
    except ValueError:
        return False


def _content_key(item: Mapping[str, Any]) -> bytes:
    """Return a key that is equal for items with equal content, regardless of their ids."""
    content = {field: value for field, value in item.items() if field not in _NOT_CONTENT}
    return jsontext.canonical(content | _type_and_name(item))


def _type_and_name(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": item.get("type"), "name": item.get("name")}


def get_id(item: Mapping[str, Any]) -> str | None:
    """Return the id of an item; None if it has none or an invalid one."""
    return item["id"] if isinstance(item.get("id"), str) else None


MATCH_RULES: tuple[tuple[Callable[[Mapping[str, Any]], Any], Callable[..., bool]], ...] = (
    (lambda item: (get_id(item), _content_key(item)) if get_id(item) else None, has_same_id),
    (get_id, has_same_id),
    (get_call_id, is_same_call),
    (_content_key, may_be_same),
    (lambda item: None if get_call_id(item) else str(item.get("type")), may_be_same),
    (lambda item: str(item.get("type")), may_be_same),
)
"""How to match two versions of an item, the strongest evidence first: a key that is equal for both (None if the rule
does not apply to an item), and a check of the pair."""


def drop_repeats(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items of a final output without those that repeat an earlier one."""
    items = list(items)
    if len(items) < 2:
        return items
    calls: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, bytes]] = set()
    unique: list[dict[str, Any]] = []
    for item in items:
        call_id, item_id = get_call_id(item), get_id(item)
        if call_id and call_id in calls and is_same_call(calls[call_id], item):
            continue
        if item_id and (item_id, content_key := _content_key(item)) in seen:
            continue
        if call_id:
            calls[call_id] = item
        if item_id:
            seen.add((item_id, content_key))
        unique.append(item)
    return unique


def merge_versions(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merge two versions of an item.

    :returns: the version with more content, or ``first`` if they have equally much, plus the fields that only the
        other version has.
    """
    if first == second:
        return first
    length = content_length(second)  # usually 0: an item that has only started
    fuller, other = (first, second) if not length or content_length(first) >= length else (second, first)
    merged = dict(fuller)
    for field, value in other.items():
        # The status of an item that has only started may be outdated.
        if merged.get(field) is None and value is not None and field != "status":
            merged[field] = value
    if merged.get("status") == "in_progress" and isinstance(other.get("status"), str):
        merged["status"] = other["status"]
    return merged


def content_length(value: Any) -> int:
    """Count the characters of content in an item or in a part of one. Encrypted content counts as one character."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        encrypted = 1 if value.get("encrypted_content") else 0
        return encrypted + sum(content_length(field) for name, field in value.items() if name not in _NOT_CONTENT)
    if isinstance(value, list):
        return sum(map(content_length, value))
    return 0
