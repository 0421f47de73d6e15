"""Adapt items to an upstream: with ids that it accepts, and without nulls that it would refuse."""

import hashlib
from collections.abc import Container, Iterable
from typing import Any

MAX_ID_LENGTH = 64
"""Characters of an item id or a call id. Strict upstreams refuse longer ones."""

_ID_IS_OPTIONAL = frozenset(
    {
        None,
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "compaction",
        "compaction_summary",
    }
)
"""Types of items that an upstream accepts without an id. Others get a new id that is derived from theirs."""

_ALLOWED_NULLS: dict[object, frozenset[str]] = {"reasoning": frozenset({"content"})}
"""Fields, by item type, that are null when they have no value, and that every upstream accepts as null."""


def fit(item: dict[str, Any], used_ids: set[str], *, is_foreign: bool, is_own: bool) -> dict[str, Any]:
    """Return an item in a form that the upstream accepts; the same object if nothing changes.

    :param used_ids: the ids of the items before it; that of this one is added.
    :param is_foreign: whether another upstream issued it. Its ids may have another form.
    :param is_own: whether the upstream issued it. Otherwise a client or the gateway did.
    """
    changes: dict[str, Any] = {}
    item_id, call_id = item.get("id"), item.get("call_id")
    if isinstance(item_id, str):
        is_repeated = item_id in used_ids
        if is_repeated or is_foreign or (len(item_id) > MAX_ID_LENGTH and not is_own):
            changes["id"] = None if item.get("type") in _ID_IS_OPTIONAL else _derive_id(item_id, used_ids)
        used_ids.add(changes.get("id") or item_id)
    if isinstance(call_id, str) and len(call_id) > MAX_ID_LENGTH:
        changes["call_id"] = f"call_{_digest(call_id)}"
    if isinstance(action := item.get("action"), dict) and None in action.values():
        changes["action"] = _without_nulls(action)
    for name in ("content", "summary", "output"):
        parts = item.get(name)
        if isinstance(parts, list) and any(isinstance(part, dict) and None in part.values() for part in parts):
            changes[name] = [_without_nulls(part) if isinstance(part, dict) else part for part in parts]
    if not changes and None not in item.values():
        return item
    fitted = _without_nulls({**item, **changes}, _ALLOWED_NULLS.get(item.get("type"), frozenset()))
    return fitted if changes or len(fitted) < len(item) else item


def ready_ids(items: Iterable[dict[str, Any]]) -> tuple[str, ...] | None:
    """Return the ids of items that need no change for the upstream that issued them; None if one of them does."""
    used_ids: set[str] = set()
    for item in items:
        if fit(item, used_ids, is_foreign=False, is_own=False) is not item:
            return None
    return tuple(used_ids)


def _derive_id(item_id: str, used_ids: Container[str]) -> str:
    """Return an id to replace one that cannot be sent. The same history gives the same id in every turn."""
    prefix = item_id.partition("_")[0][:16] or "item"
    number = 0
    while (new_id := f"{prefix}_{_digest(f'{number} {item_id}')}") in used_ids:
        number += 1
    return new_id


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _without_nulls(value: dict[str, Any], allowed: frozenset[str] = frozenset()) -> dict[str, Any]:
    return {name: part for name, part in value.items() if part is not None or name in allowed}
