"""Making a history fit for the upstream that is to read it: ids it can accept, and no nulls that it would refuse."""

import hashlib
from collections.abc import Iterable
from typing import Any

from floway_core.conversation.records import History

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
"""Items that an upstream takes without an id. Others get one that is made from theirs."""

_MEANT_NULLS: dict[object, frozenset[str]] = {"reasoning": frozenset({"content"})}
"""Fields that are null where they have no value, and that every upstream takes so."""


def fit_for_upstream(given: History, upstream_id: str) -> list[dict[str, Any]]:
    """The items of a history as the upstream gets them. Those that need no change are the same objects.

    No id stands twice, or comes from another upstream, which numbers in its own way; call ids are short enough and the
    same in a call and its output; fields without a value are left out.
    """
    seen: set[str] = set()
    return [
        _fit(item, seen, is_foreign=issuer not in (None, upstream_id), is_own=issuer == upstream_id)
        for item, issuer in zip(given.items, given.issuers, strict=True)
    ]


def _fit(item: dict[str, Any], seen: set[str], *, is_foreign: bool, is_own: bool) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    item_id, call_id = item.get("id"), item.get("call_id")
    if isinstance(item_id, str):
        is_repeated = item_id in seen
        if is_repeated or is_foreign or (len(item_id) > MAX_ID_LENGTH and not is_own):
            changes["id"] = None if item.get("type") in _ID_IS_OPTIONAL else _made_id(item_id, seen)
        seen.add(changes.get("id") or item_id)
    if isinstance(call_id, str) and len(call_id) > MAX_ID_LENGTH:
        changes["call_id"] = f"call_{_digest(call_id)}"
    if isinstance(action := item.get("action"), dict) and None in action.values():
        changes["action"] = _without_nulls(action)
    for name in ("content", "summary", "output"):
        parts = item.get(name)
        if isinstance(parts, list) and any(isinstance(part, dict) and None in part.values() for part in parts):
            changes[name] = [_without_nulls(part) if isinstance(part, dict) else part for part in parts]
    if changes or None in item.values():
        return _without_nulls({**item, **changes}, _MEANT_NULLS.get(item.get("type"), frozenset()))
    return item


def _made_id(item_id: str, seen: Iterable[str]) -> str:
    """An id in the place of one that cannot be sent. The same history gives the same one in every turn."""
    prefix = item_id.partition("_")[0][:16] or "item"
    number = 0
    while (made := f"{prefix}_{_digest(f'{number} {item_id}')}") in seen:
        number += 1
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _without_nulls(value: dict[str, Any], meant: frozenset[str] = frozenset()) -> dict[str, Any]:
    return {name: part for name, part in value.items() if part is not None or name in meant}
