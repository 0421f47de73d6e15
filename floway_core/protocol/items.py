"""Items of ``input`` and ``output``: their usual form, and what makes two of them the same."""

import hashlib
from collections.abc import Iterable
from typing import Any

from floway_core.protocol import jsontext

TRIGGER = "compaction_trigger"
"""An item that asks for a compaction. It goes to the upstream and is never part of a history."""

COMPACTIONS = ("compaction", "compaction_summary")
"""Items that stand for all that was said before them."""

# Clients that send an item back leave these out or change them, and nothing depends on it.
_INCIDENTAL = frozenset({"id", "status", "annotations", "logprobs"})

# But of these the id is what they say: others refer to it, or it stands for something that is kept elsewhere.
_NAMED_BY_ID = ("mcp_approval_request", "image_generation_call", "local_shell_call_output", None)


def as_items(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ``input`` of a request as a list: a text is one message of the user."""
    if isinstance(given, list):
        return given
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]


def usual_form(item: dict[str, Any]) -> dict[str, Any]:
    """``item`` without what clients change when they send it again.

    Two items with the same usual form say the same. It is for comparing; nobody is sent it.
    """
    form = {key: value for key, value in item.items() if key not in _INCIDENTAL and value not in (None, [])}
    if "role" not in form and item.get("type") in _NAMED_BY_ID:
        form["id"] = item.get("id")
    if "role" in form:
        form.setdefault("type", "message")
        content = form.get("content")
        kind = "output_text" if form["role"] == "assistant" else "input_text"
        if isinstance(content, str):
            form["content"] = [{"type": kind, "text": content}]
        elif isinstance(content, list):
            form["content"] = [_usual_part(part, kind) for part in content]
    return form


def _usual_part(part: Any, text_kind: str) -> Any:
    if not isinstance(part, dict):
        return part
    form = {key: value for key, value in part.items() if key not in _INCIDENTAL and value is not None}
    if form.get("type") in ("input_text", "output_text", "text"):
        form["type"] = text_kind
    return form


START = hashlib.sha256(b"history").hexdigest()
"""The hash of an empty history."""


def extended_hashes(history_hash: str, items: Iterable[dict[str, Any]]) -> list[str]:
    """The hash of a history after each of ``items`` that follow it.

    :param history_hash: of the history before them, or ``START``.
    :returns: hex SHA-256, one per item: a chain, so that each stands for everything up to it.
    """
    hashes = []
    for item in items:
        link = f"{history_hash}\n".encode() + jsontext.canonical(usual_form(item))
        history_hash = hashlib.sha256(link).hexdigest()
        hashes.append(history_hash)
    return hashes


def extended_hash(history_hash: str, items: Iterable[dict[str, Any]]) -> str:
    """The hash of a history with all of ``items`` behind it, as ``extended_hashes`` tells it of the last."""
    return [history_hash, *extended_hashes(history_hash, items)][-1]


def blob_hash(item: dict[str, Any]) -> str | None:
    """Hex SHA-256 of an item's ``encrypted_content``, or None when it has none."""
    blob = item.get("encrypted_content")
    return hashlib.sha256(blob.encode("utf-8", "replace")).hexdigest() if isinstance(blob, str) and blob else None


def is_bare(item: dict[str, Any]) -> bool:
    """Whether an item is reasoning of which only its id and a summary are left: who is to read it has to know it."""
    return item.get("type") == "reasoning" and isinstance(item.get("id"), str) and not item.get("encrypted_content")


def is_reference(item: dict[str, Any]) -> bool:
    """Whether an item only names another one by its id."""
    kind = item.get("type")
    if kind is not None:
        return kind == "item_reference"
    stated = {name for name, value in item.items() if value is not None}  # SDKs write null for what is not there
    return stated == {"id"}


def listed_form(item: dict[str, Any]) -> dict[str, Any]:
    """``item`` as the API lists it: a message has its type, a status, and its content in parts, however it was sent."""
    if "role" not in item:
        return item
    content = item.get("content")
    if isinstance(content, str):
        kind = {"type": "output_text", "annotations": []} if item["role"] == "assistant" else {"type": "input_text"}
        content = [{**kind, "text": content}]
    return {**item, "type": "message", "status": item.get("status") or "completed", "content": content}


def without_triggers(given: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that become part of a history."""
    return [item for item in given if item.get("type") != TRIGGER]


def replaces_history(output: Iterable[dict[str, Any]]) -> bool:
    """Whether an answer's output starts the history anew."""
    return any(item.get("type") in COMPACTIONS for item in output)
