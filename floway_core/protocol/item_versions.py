"""Comparing and merging two versions of one output item, such as a streamed one and that of the final response."""

from collections.abc import Iterable, Mapping
from typing import Any

Item = Mapping[str, Any]

_NOT_CONTENT = frozenset(
    {"id", "type", "status", "role", "name", "call_id", "annotations", "logprobs", "encrypted_content"}
)
"""Fields that do not count as content. ``encrypted_content`` does not because its length depends on the encryption."""


def may_be_same(first: Item, second: Item) -> bool:
    """Return whether nothing shows that these are two items: equal types and, if both have one, equal call ids."""
    call_ids = first.get("call_id"), second.get("call_id")
    has_call_ids = all(isinstance(call_id, str) for call_id in call_ids)
    return first.get("type") == second.get("type") and (not has_call_ids or call_ids[0] == call_ids[1])


def has_same_id(first: Item, second: Item) -> bool:
    """Return whether both have the same id and may be the same item."""
    return isinstance(first.get("id"), str) and first["id"] == second.get("id") and may_be_same(first, second)


def is_same_call(first: Item, second: Item) -> bool:
    """Return whether both are the tool call with the same ``call_id``."""
    call_id = first.get("call_id")
    return isinstance(call_id, str) and call_id == second.get("call_id") and may_be_same(first, second)


def has_same_content(first: Item, second: Item) -> bool:
    """Return whether both have equal content and may be the same item."""
    return may_be_same(first, second) and _content_fields(first) == _content_fields(second)


def lacks_id(first: Item, second: Item) -> bool:
    """Return whether at least one of the two has no id, so that ids cannot tell them apart."""
    return not (isinstance(first.get("id"), str) and isinstance(second.get("id"), str))


def drop_repeats(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items of a final output without those that repeat an earlier one."""
    unique: list[dict[str, Any]] = []
    for item in items:
        if not any(
            is_same_call(earlier, item) or (has_same_id(earlier, item) and has_same_content(earlier, item))
            for earlier in unique
        ):
            unique.append(item)
    return unique


def merge_versions(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merge two versions of an item.

    :returns: the version with more content, or ``first`` if they have equally much, plus the fields that only the
        other version has.
    """
    if first == second:
        return first
    fuller, other = (first, second) if content_length(first) >= content_length(second) else (second, first)
    merged = dict(fuller)
    for name, value in other.items():
        # An item that is only announced may have a status that is out of date by now.
        if name != "status" and value is not None and merged.get(name) is None:
            merged[name] = value
    if merged.get("status") == "in_progress" and isinstance(other.get("status"), str):
        merged["status"] = other["status"]
    return merged


def content_length(value: Any) -> int:
    """Count the characters of content in an item or in a part of one. Encrypted content counts as one character."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(content_length, value))
    if isinstance(value, dict):
        encrypted = 1 if value.get("encrypted_content") else 0
        return encrypted + sum(content_length(field) for name, field in value.items() if name not in _NOT_CONTENT)
    return 0


def _content_fields(item: Item) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in _NOT_CONTENT}
