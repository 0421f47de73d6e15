"""Conversion of input items to the form that the CLI sends and the backend accepts."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from floway_codex.wire.input_state import InputState
from floway_core.protocol.items import ID_PREFIXES as API_PREFIXES
from floway_core.protocol.lazy_items import LazyItems

MAX_ID_LENGTH = 64
ID = re.compile(r"[A-Za-z0-9_-]+")
ID_PREFIXES = {**API_PREFIXES, "additional_tools": "at", "agent_message": "amsg"}
"""Item type -> prefix of its ids, before the underscore."""

ROLES = {"system": "developer"}
"""Message roles that the backend refuses ("System messages are not allowed") -> replacement."""
TEXT_PARTS = frozenset({"input_text", "output_text", "text"})
"""Types of text parts. The backend accepts one of them, depending on the role of the message."""
TEXT_OF_ROLE = {"assistant": "output_text"}
"""Role of a message -> type of its text parts. All other roles have ``INPUT_TEXT``."""
INPUT_TEXT = "input_text"
LEFT_OUT_OF_TEXT = {INPUT_TEXT: frozenset({"annotations", "logprobs"}), "output_text": frozenset({"logprobs"})}
"""Fields of text parts that responses have, and the CLI does not send back."""
LEFT_OUT_OF_ITEM = {"reasoning": frozenset({"status"})}
"""Item type -> fields that responses have, and the CLI does not send back."""
SENT_AS_NULL = frozenset({("reasoning", "content")})
"""(item type, field) that the CLI sends as null. All other nulls are dropped: SDKs write them for unused fields."""

ITEM_METADATA = "internal_chat_message_metadata_passthrough"
"""A field of items that the CLI sends to providers named OpenAI only."""
INSTRUCTIONS = "instructions"
"""The kind of the developer message that holds the instructions."""


# ------------------------------------------------------------------------------------------------------------- items
def item_kind(item: Mapping[str, Any]) -> str:
    """The type of an item; for messages ``message`` and the role."""
    kind = item.get("type")
    return f"message {item.get('role')}" if kind == "message" else str(kind)


def part_kind(part: Mapping[str, Any]) -> str:
    """``part`` and the type of a part of a message."""
    return f"part {part.get('type')}"


def convert_input(client_input: Any, state: InputState) -> Any:
    """Convert ``input`` to a list of items in the form that the CLI sends. Unknown types are passed on unchanged.

    :param state: of the items before; it is updated, except for the count.
    """
    if isinstance(client_input, str):
        return [build_message("user", client_input)]
    if isinstance(client_input, list | LazyItems):
        return list(_convert_items(client_input, state))
    return client_input


def _convert_items(items: Iterable[Any], state: InputState) -> Iterator[Any]:
    for item in items:
        if not isinstance(item, dict):
            yield item
            continue
        kind = item.get("type")
        # The backend stores nothing: it cannot resolve a reference, or reasoning without encrypted content.
        if kind == "item_reference" or (kind == "reasoning" and not item.get("encrypted_content")):
            continue
        converted = item if kind == "message" and _is_plain_message(item) else _convert_item(item)
        if "call_id" in converted:
            converted = _with_unique_call_id(converted, state)
        yield _with_unique_id(converted, state.ids) if "id" in converted else converted


def build_message(role: str, text: str) -> dict[str, Any]:
    """A message with one text part."""
    return {"type": "message", "role": role, "content": [_build_text_part(role, text)]}


def _build_text_part(role: Any, text: str) -> dict[str, Any]:
    return {"type": _text_type(role), "text": text}


def _text_type(role: Any) -> str:
    return TEXT_OF_ROLE.get(role, INPUT_TEXT) if isinstance(role, str) else INPUT_TEXT


def _is_plain_message(item: Mapping[str, Any]) -> bool:
    """Whether a message is one of a user with one text, in the form that the CLI sends. Most of what clients send anew
    is."""
    if item.keys() != _MESSAGE_KEYS or item["role"] != "user":
        return False
    content = item["content"]
    part = content[0] if isinstance(content, list) and len(content) == 1 else None
    if not isinstance(part, dict) or part.keys() != _PART_KEYS:
        return False
    return part["type"] == INPUT_TEXT and part["text"] is not None


_MESSAGE_KEYS, _PART_KEYS = {"type", "role", "content"}, {"type", "text"}


def _convert_item(item: dict[str, Any]) -> dict[str, Any]:
    """Convert an item; returns the same object if nothing changes."""
    declared = item.get("type")
    kind = declared if isinstance(declared, str) else "message" if declared is None and "role" in item else ""
    left_out = LEFT_OUT_OF_ITEM.get(kind)
    if None in item.values() or (left_out and not left_out.isdisjoint(item)):
        item = {
            name: value
            for name, value in item.items()
            if name not in (left_out or ()) and (value is not None or (kind, name) in SENT_AS_NULL)
        }
    if kind == "message":
        item = _convert_message(item)
    elif kind == "reasoning" and item.get("content"):  # another upstream's plain text
        item = _without(item, "content")
    elif "output" in item and isinstance(item["output"], list):
        item = {**item, "output": [_convert_part(part, INPUT_TEXT) for part in item["output"]]}
    if "action" in item and isinstance(item["action"], dict):
        item = {**item, "action": without_nulls(item["action"])}
    if "id" in item and not is_acceptable_id(kind, item["id"]):
        item = _without(item, "id")
    if "call_id" in item and isinstance(call_id := item["call_id"], str) and (new := to_call_id(call_id)) != call_id:
        item = {**item, "call_id": new}
    return item


def _convert_message(item: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a message: explicit type, accepted role, content as a list of parts."""
    role, content = item.get("role"), item.get("content")
    converted = {"type": "message", **item}
    if isinstance(role, str) and role in ROLES:
        converted["role"] = role = ROLES[role]
    if isinstance(content, str):
        converted["content"] = [_build_text_part(role, content)]
    elif isinstance(content, list):
        text_type = _text_type(role)
        converted["content"] = [_convert_part(part, text_type) for part in content]
    return converted


def _convert_part(part: Any, text_type: str) -> Any:
    """Convert a part of a content or an output; text parts get the type ``text_type``."""
    if not isinstance(part, dict):
        return part
    part = without_nulls(part) if None in part.values() else part
    kind, left_out = part.get("type"), LEFT_OUT_OF_TEXT[text_type]
    if not isinstance(kind, str) or kind not in TEXT_PARTS or (kind == text_type and left_out.isdisjoint(part)):
        return part
    converted = {**part, "type": text_type}
    for name in left_out:
        converted.pop(name, None)
    return converted


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def _without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields without one that they have."""
    remaining = dict(fields)
    del remaining[name]
    return remaining


# --------------------------------------------------------------------------------------------------------------- ids
def _with_unique_id(item: dict[str, Any], seen: set[str]) -> dict[str, Any]:
    """Drop the id if an earlier item has it: the backend refuses duplicates, and needs no ids. Some upstreams number
    the items of each response from one."""
    if item["id"] in seen:
        return _without(item, "id")
    seen.add(item["id"])
    return item


def _with_unique_call_id(item: dict[str, Any], state: InputState) -> dict[str, Any]:
    """Give a call a new id if an earlier call with this id has an output already, so that each output has one call. The
    ids only depend on the items before, so they stay the same in later requests."""
    call_id, answered = item["call_id"], state.answered_calls
    if not isinstance(call_id, str):
        return item
    if str(item.get("type")).endswith("_output"):
        answered.add(call_id)
    elif call_id in answered:
        answered.remove(call_id)
        state.call_id_uses[call_id] = uses = state.call_id_uses.get(call_id, 1) + 1
        state.new_call_ids[call_id] = _derive_call_id(f"{call_id} {uses}")
    return {**item, "call_id": state.new_call_ids[call_id]} if call_id in state.new_call_ids else item


def is_acceptable_id(kind: Any, value: Any) -> bool:
    """Whether the backend accepts ``value`` as the id of an item of this type."""
    if not isinstance(value, str) or len(value) > MAX_ID_LENGTH or not ID.fullmatch(value):
        return False
    prefix = ID_PREFIXES.get(kind) if isinstance(kind, str) else None
    return prefix is None or value.startswith(f"{prefix}_")


def to_call_id(value: str) -> str:
    """``value`` if the backend accepts it as a call id, else an id derived from it. A call and its output get the same
    one."""
    if value and len(value) <= MAX_ID_LENGTH and ID.fullmatch(value):
        return value
    return _derive_call_id(value)


def _derive_call_id(seed: str) -> str:
    return f"call_{hashlib.sha256(seed.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def move_to_input(body: Mapping[str, Any], lite: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Move the instructions into the input, as a developer message; for responses-lite also the tools.

    :param body: a body whose ``input`` is a list.
    :returns: the body without them, and the items that lead its input.
    """
    moved, leading = dict(body), []
    instructions = moved.pop("instructions", None)
    if lite:
        moved.pop("tools", None)
        if tools := body.get("tools"):
            leading.append({"type": "additional_tools", "role": "developer", "tools": tools})
        reasoning = body.get("reasoning")
        moved["parallel_tool_calls"] = False
        moved["reasoning"] = {**(reasoning if isinstance(reasoning, Mapping) else {}), "context": "all_turns"}
    if instructions and isinstance(instructions, str):
        leading.append(build_message("developer", instructions))
    elif instructions:
        moved["instructions"] = instructions  # the backend reports what is wrong with it
    return moved, leading
