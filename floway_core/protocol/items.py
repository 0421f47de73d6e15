"""Items of ``input`` and ``output``: their normal form, their kinds, and hashes of histories."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from floway_core.protocol import jsontext

TRIGGER = "compaction_trigger"
"""Type of an item that requests a compaction. It goes to the upstream and is never part of a history."""

COMPACTIONS = ("compaction", "compaction_summary")
"""Types of items that replace all items before them."""

TOOL_CALL_TYPES = ("function_call", "custom_tool_call")
"""Types of calls of the client's own tools."""

TOOL_OUTPUT_TYPES = ("function_call_output", "custom_tool_call_output")
"""Types of the outputs of these calls."""

_INCIDENTAL_FIELDS = frozenset({"id", "status", "annotations", "logprobs", "phase"})
"""Fields that clients omit or change when they send an item again. No two items differ only in them."""

_TEXT_TYPES = ("input_text", "output_text", "text")
"""Types of texts in messages. Clients use any of them."""

_TYPES_WITH_MEANINGFUL_ID = ("mcp_approval_request", "image_generation_call", "local_shell_call_output", None)
"""Types whose id is part of the content: other items refer to it, or it names something stored elsewhere."""


ID_PREFIXES = {
    "apply_patch_call": "ap",
    "apply_patch_call_output": "apo",
    "code_interpreter_call": "ci",
    "compaction": "cmp",
    "compaction_summary": "cmp",
    "computer_call": "cc",
    "computer_call_output": "cco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "file_search_call": "fs",
    "function_call": "fc",
    "function_call_output": "fco",
    "image_generation_call": "ig",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "mcp_approval_request": "mcpar",
    "mcp_approval_response": "mcpa",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "message": "msg",
    "reasoning": "rs",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "tool_search_call": "ts",
    "tool_search_output": "tso",
    "web_search_call": "ws",
}
"""Item type -> prefix of its ids, before the underscore. OpenAI refuses an id with another prefix."""


def make_id(item_type: str, suffix: str) -> str:
    """Return the id of an item that has none, in OpenAI's form."""
    return f"{ID_PREFIXES.get(item_type, 'item')}_{suffix}"


def as_items(input: str | Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the ``input`` of a request as items. A string is one message of the user."""
    if isinstance(input, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": input}]}]
    return input


def item_type(item: dict[str, Any]) -> str | None:
    """Return the type of an item; None if it has none, as messages may."""
    kind = item.get("type")
    return kind if isinstance(kind, str) else None


def item_types(items: Iterable[dict[str, Any]]) -> list[str | None]:
    """Return the type of each item, as ``item_type``."""
    return [kind if isinstance(kind := item.get("type"), str) else None for item in items]


def usual_form(item: dict[str, Any]) -> dict[str, Any]:
    """Return the normal form of an item, without fields that clients change when they send it again.

    Two items with equal normal forms have the same meaning. The normal form is for comparisons and is never sent. It
    shares values with the item: do not change them.
    """
    if item.get("type") == "reasoning" and item.get("encrypted_content"):  # clients may not send its summary again
        return {"type": "reasoning", "encrypted_content": item["encrypted_content"]}
    values = item.values()
    if _INCIDENTAL_FIELDS.isdisjoint(item) and None not in values and [] not in values:  # faster than to try each
        form = item.copy()
    else:
        form = {key: value for key, value in item.items() if key not in _INCIDENTAL_FIELDS and value not in (None, [])}
    if "role" in form:
        form.setdefault("type", "message")
        content = form.get("content")
        text_type = "output_text" if form["role"] == "assistant" else "input_text"
        if isinstance(content, str):
            form["content"] = [{"type": text_type, "text": content}]
        elif isinstance(content, list):
            form["content"] = [_normalize_part(part, text_type) for part in content]
    elif item.get("type") in _TYPES_WITH_MEANINGFUL_ID:
        form["id"] = item.get("id")
    if item.get("type") == "function_call":
        form["arguments"] = _normalize_arguments(form.get("arguments"))
    return form


def _normalize_arguments(arguments: Any) -> Any:
    """Return the value of the arguments of a call, because clients may encode them differently."""
    try:
        value = jsontext.loads(arguments.encode()) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments


def _normalize_part(part: Any, text_type: str) -> Any:
    if not isinstance(part, dict):
        return part
    if not _INCIDENTAL_FIELDS.isdisjoint(part) or None in part.values():
        part = {key: value for key, value in part.items() if key not in _INCIDENTAL_FIELDS and value is not None}
    kind = part.get("type")
    if kind == text_type or kind not in _TEXT_TYPES:
        return part
    return {**part, "type": text_type}


START = hashlib.sha256(b"history").hexdigest()
"""Hash of an empty history."""


def extended_hashes(history_hash: str, items: Iterable[dict[str, Any]]) -> list[str]:
    """Compute the hash of a history after each of further items.

    :param history_hash: hash of the history before them, or ``START``.
    :returns: one hex SHA-256 per item. Each covers the history and all items up to this one.
    """
    hashes, sha256, canonical = [], hashlib.sha256, jsontext.canonical
    for item in items:
        history_hash = sha256(b"%s\n%s" % (history_hash.encode(), canonical(usual_form(item)))).hexdigest()
        hashes.append(history_hash)
    return hashes


def extended_hash(history_hash: str, items: Iterable[dict[str, Any]]) -> str:
    """Compute the hash of a history after all further items: the last of ``extended_hashes``."""
    return [history_hash, *extended_hashes(history_hash, items)][-1]


def blob_hash(item: dict[str, Any]) -> str | None:
    """Return the hex SHA-256 of an item's ``encrypted_content``; None if it has none."""
    blob = item.get("encrypted_content")
    return hashlib.sha256(blob.encode("utf-8", "replace")).hexdigest() if isinstance(blob, str) and blob else None


MAY_REFER = frozenset({None, "item_reference", "reasoning"})
"""The types, as in ``item_types``, of items that may be references or bare."""


def is_bare(item: dict[str, Any]) -> bool:
    """Return whether an item is reasoning without its encrypted content, which only the issuing upstream knows."""
    return item.get("type") == "reasoning" and isinstance(item.get("id"), str) and not item.get("encrypted_content")


def is_reference(item: dict[str, Any]) -> bool:
    """Return whether an item only refers to another one by its id."""
    item_type = item.get("type")
    if item_type is not None:
        return bool(item_type == "item_reference")
    fields = {name for name, value in item.items() if value is not None}  # SDKs send null for absent fields
    return fields == {"id"}


def listed_form(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item in the form of lists of items: a message has a type, a status, and a list of parts."""
    if "role" not in item:
        return item
    content = item.get("content")
    if isinstance(content, str):
        part = {"type": "output_text", "annotations": []} if item["role"] == "assistant" else {"type": "input_text"}
        content = [{**part, "text": content}]
    return {**item, "type": "message", "status": item.get("status") or "completed", "content": content}


def without_triggers(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items that become part of a history."""
    return [item for item in items if item.get("type") != TRIGGER]


def replaces_history(output: Iterable[dict[str, Any]]) -> bool:
    """Return whether the output of a response contains a compaction, so that the history starts with it."""
    return any(item.get("type") in COMPACTIONS for item in output)
