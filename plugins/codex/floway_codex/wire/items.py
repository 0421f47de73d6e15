"""Conversion of input items and tools to the form that the CLI sends and the backend accepts."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from floway_codex.wire.input_state import InputState

MAX_ID_LENGTH = 64
ID = re.compile(r"[A-Za-z0-9_-]+")
ID_PREFIXES = {
    "additional_tools": "at",
    "agent_message": "amsg",
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

REFUSED_TOOLS = frozenset({"code_interpreter", "computer", "computer_use_preview", "file_search", "mcp"})
"""Tools that the backend does not offer to this kind of account."""
LITE_TOOLS = frozenset({"custom", "function", "namespace", "tool_search"})
"""The only tool types of the responses-lite form."""
TOOL_TYPES = {
    "web_search_2025_08_26": "web_search",
    "web_search_preview": "web_search",
    "web_search_preview_2025_03_11": "web_search",
}
"""Tool types of the API -> type that the CLI sends for the same tool."""
UNNAMEABLE_TOOLS = frozenset({"image_generation", "local_shell", "tool_search", "web_search"})
"""Tools that the backend offers but does not find by a ``tool_choice`` of their type: it searches functions only."""


INSTRUCTIONS = "instructions"
"""The kind of the developer message that holds the instructions."""


# ------------------------------------------------------------------------------------------------------------- items
def item_kind(item: Mapping[str, Any]) -> str:
    """The type of an item; for messages ``message`` and the role."""
    kind, role = item.get("type"), item.get("role")
    return f"message {role}" if kind == "message" else str(kind)


def part_kind(part: Mapping[str, Any]) -> str:
    """``part`` and the type of a part of a message."""
    return f"part {part.get('type')}"


def convert_input(client_input: Any, state: InputState) -> Any:
    """Convert ``input`` to a list of items in the form that the CLI sends. Unknown types are passed on unchanged.

    :param state: of the items before; it is updated, except for the count.
    """
    if isinstance(client_input, str):
        return [build_message("user", client_input)]
    if isinstance(client_input, list):
        converted = (_convert_item(item) for item in client_input if not _is_unreadable(item))
        return _with_unique_ids(_with_unique_call_ids(converted, state), state.ids)
    return client_input


def build_message(role: str, text: str) -> dict[str, Any]:
    """A message with one text part."""
    return {"type": "message", "role": role, "content": [_build_text_part(role, text)]}


def _build_text_part(role: Any, text: str) -> dict[str, Any]:
    return {"type": _text_type(role), "text": text}


def _text_type(role: Any) -> str:
    return TEXT_OF_ROLE.get(role, INPUT_TEXT) if isinstance(role, str) else INPUT_TEXT


def _is_unreadable(item: Any) -> bool:
    """Whether an item refers to another one, or is reasoning without encrypted content. The backend stores nothing, so
    it cannot resolve either."""
    if not isinstance(item, dict):
        return False
    return item.get("type") == "item_reference" or (
        item.get("type") == "reasoning" and not item.get("encrypted_content")
    )


def _convert_item(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    if _is_plain_message(item):
        return item
    declared = item.get("type")
    kind = declared if isinstance(declared, str) else "message" if declared is None and "role" in item else ""
    left_out = LEFT_OUT_OF_ITEM.get(kind, ())
    converted = {
        name: value
        for name, value in item.items()
        if name not in left_out and (value is not None or (kind, name) in SENT_AS_NULL)
    }
    if kind == "message":
        converted = _convert_message(converted)
    elif kind == "reasoning" and converted.get("content"):  # another upstream's plain text
        del converted["content"]
    elif isinstance(converted.get("output"), list):
        converted["output"] = [_convert_part(part, INPUT_TEXT) for part in converted["output"]]
    if isinstance(converted.get("action"), dict):
        converted["action"] = _without_nulls(converted["action"])
    if "id" in converted and not is_acceptable_id(kind, converted["id"]):
        del converted["id"]
    if isinstance(converted.get("call_id"), str):
        converted["call_id"] = to_call_id(converted["call_id"])
    return converted


def _is_plain_message(item: Mapping[str, Any]) -> bool:
    """Whether an item is a message of a user with one text, in the form that the CLI sends. Most of what clients send
    anew is."""
    if item.keys() != _MESSAGE_KEYS or item["type"] != "message" or item["role"] != "user":
        return False
    content = item["content"]
    part = content[0] if isinstance(content, list) and len(content) == 1 else None
    if not isinstance(part, dict) or part.keys() != _PART_KEYS:
        return False
    return part["type"] == INPUT_TEXT and part["text"] is not None


_MESSAGE_KEYS, _PART_KEYS = {"type", "role", "content"}, {"type", "text"}


def _convert_message(item: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a message: explicit type, accepted role, content as a list of parts."""
    role, content = item.get("role"), item.get("content")
    converted = {"type": "message", **item}
    if isinstance(role, str) and role in ROLES:
        converted["role"] = role = ROLES[role]
    if isinstance(content, str):
        converted["content"] = [_build_text_part(role, content)]
    elif isinstance(content, list):
        converted["content"] = [_convert_part(part, _text_type(role)) for part in content]
    return converted


def _convert_part(part: Any, text_type: str) -> Any:
    """Convert a part of a content or an output; text parts get the type ``text_type``."""
    if not isinstance(part, dict):
        return part
    converted = _without_nulls(part)
    kind = converted.get("type")
    if not isinstance(kind, str) or kind not in TEXT_PARTS:
        return converted
    return {
        name: value
        for name, value in {**converted, "type": text_type}.items()
        if name not in LEFT_OUT_OF_TEXT[text_type]
    }


def _without_nulls(client_input: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in client_input.items() if value is not None}


# --------------------------------------------------------------------------------------------------------------- ids
def _with_unique_ids(items: Iterable[Any], seen: set[str]) -> list[Any]:
    """Drop ids that an earlier item has: the backend refuses duplicates, and needs no ids. Some upstreams number the
    items of each response from one."""
    converted = []
    for item in items:
        item_id = item.get("id") if isinstance(item, dict) else None
        if item_id is not None and item_id in seen:
            item = {name: value for name, value in item.items() if name != "id"}
        elif item_id is not None:
            seen.add(item_id)
        converted.append(item)
    return converted


def _with_unique_call_ids(items: Iterable[Any], state: InputState) -> Iterable[Any]:
    """Give a call a new id if an earlier call with this id has an output already, so that each output has one call. The
    ids only depend on the items before, so they stay the same in later requests."""
    answered, current, uses = state.answered_calls, state.new_call_ids, state.call_id_uses
    for item in items:
        item_id = item.get("call_id") if isinstance(item, dict) else None
        if not isinstance(item_id, str):
            yield item
            continue
        if str(item.get("type")).endswith("_output"):
            answered.add(item_id)
        elif item_id in answered:
            answered.remove(item_id)
            uses[item_id] = uses.get(item_id, 1) + 1
            current[item_id] = _derive_call_id(f"{item_id} {uses[item_id]}")
        yield {**item, "call_id": current[item_id]} if item_id in current else item


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


# ------------------------------------------------------------------------------------------------------------- tools
def convert_tools(body: Mapping[str, Any], lite: bool) -> dict[str, Any]:
    """The changes to ``tools`` and ``tool_choice``: the CLI's names for tools, no tools that the backend refuses, no
    choice of a tool that it would not find."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    changed: dict[str, Any] = {}
    remaining = tools
    if isinstance(tools, list):
        remaining = [_convert_tool(tool) for tool in tools if _is_offered(tool, lite)]
        if remaining != tools:
            changed["tools"] = remaining
    new_choice = _convert_tool_choice(choice, lite)
    if choice and isinstance(tools, list) and tools and not remaining:
        new_choice = "auto"
    return {**changed, **({"tool_choice": new_choice} if new_choice != choice else {})}


def _convert_tool(tool: Any) -> Any:
    """Convert a tool: the CLI's name for its type, no nulls."""
    if not isinstance(tool, dict):
        return tool
    converted, kind = _without_nulls(tool), tool.get("type")
    return {**converted, "type": TOOL_TYPES[kind]} if isinstance(kind, str) and kind in TOOL_TYPES else converted


def _convert_tool_choice(choice: Any, lite: bool) -> Any:
    """Convert ``tool_choice`` to a value that the backend accepts."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        allowed = [_convert_tool(tool) for tool in choice["tools"] if _is_offered(tool, lite)]
        return {**choice, "tools": allowed} if allowed else "auto"
    kind = _convert_tool(choice).get("type")
    unnameable = isinstance(kind, str) and kind in UNNAMEABLE_TOOLS
    return "auto" if unnameable or not _is_offered(choice, lite) else choice


def _is_offered(tool: Any, lite: bool) -> bool:
    """Whether the backend offers ``tool``. Also accepts a ``tool_choice`` that names a tool by its type."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str):
        return True  # the backend reports what is wrong with it
    return kind in LITE_TOOLS or (not lite and kind not in REFUSED_TOOLS)


def move_to_input(body: Mapping[str, Any], lite: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Move the instructions into the input, as a developer message; for responses-lite also the tools.

    :param body: a body whose ``input`` is a list.
    :returns: the body without them, and the items that lead its input.
    """
    moved = {name: value for name, value in body.items() if name != "instructions"}
    instructions, leading = body.get("instructions"), []
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
