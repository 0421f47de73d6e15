"""Input items and tools in the form that the backend takes, which is the one that the CLI sends."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST_ID = 64
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
"""Item type -> what its id begins with, before the underscore."""

ROLES = {"system": "developer"}
"""Roles of messages that the backend refuses -> what takes their place: "System messages are not allowed"."""
TEXT_PARTS = frozenset({"input_text", "output_text", "text"})
"""Content parts that are nothing but text. The backend takes one type of them, which depends on who speaks."""
TEXT_OF_ROLE = {"assistant": "output_text"}
"""The type of text by the role of a message; of all other roles it is ``INPUT_TEXT``."""
INPUT_TEXT = "input_text"
LEFT_OUT_OF_TEXT = {INPUT_TEXT: frozenset({"annotations", "logprobs"}), "output_text": frozenset({"logprobs"})}
"""Fields of text parts that answers have, and the CLI does not send back."""
LEFT_OUT_OF_ITEM = {"reasoning": frozenset({"status"})}
"""The same for whole items, by their type."""
SENT_AS_NULL = frozenset({("reasoning", "content")})
"""The fields, with the types of their items, that the CLI sends as null. All other nulls are left out: SDKs write them
for whatever they do not use."""

REFUSED_TOOLS = frozenset({"code_interpreter", "computer", "computer_use_preview", "file_search", "mcp"})
"""Tools that need what the backend does not offer to this kind of account: files, containers, connectors."""
LITE_TOOLS = frozenset({"custom", "function", "namespace", "tool_search"})
"""The only tools that responses-lite takes."""
TOOL_TYPES = {
    "web_search_2025_08_26": "web_search",
    "web_search_preview": "web_search",
    "web_search_preview_2025_03_11": "web_search",
}
"""Other names that the API has for a tool -> the name that the CLI sends."""
UNNAMEABLE_TOOLS = frozenset({"image_generation", "local_shell", "tool_search", "web_search"})
"""Tools that the backend has, and does not find when ``tool_choice`` names their type: it looks for functions."""


# ------------------------------------------------------------------------------------------------------------- items
def input_items(given: Any) -> Any:
    """``input`` as the list of items that the backend wants, each in the form in which the CLI sends it."""
    if isinstance(given, str):
        return [message("user", given)]
    if isinstance(given, list):
        return _with_unique_ids(_with_unique_call_ids(_item(item) for item in given if not _is_unreadable(item)))
    return given


def message(role: str, text: str) -> dict[str, Any]:
    """A message with one text in it."""
    return {"type": "message", "role": role, "content": [_text_part(role, text)]}


def _text_part(role: Any, text: str) -> dict[str, Any]:
    return {"type": _text_type(role), "text": text}


def _text_type(role: Any) -> str:
    return TEXT_OF_ROLE.get(role, INPUT_TEXT) if isinstance(role, str) else INPUT_TEXT


def _is_unreadable(item: Any) -> bool:
    """Whether an item only names another one, or is reasoning without its content: nothing is stored upstream that it
    could mean."""
    if not isinstance(item, dict):
        return False
    return item.get("type") == "item_reference" or (
        item.get("type") == "reasoning" and not item.get("encrypted_content")
    )


def _item(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    stated = item.get("type")
    kind = stated if isinstance(stated, str) else "message" if stated is None and "role" in item else ""
    left_out = LEFT_OUT_OF_ITEM.get(kind, ())
    made = {
        name: value
        for name, value in item.items()
        if name not in left_out and (value is not None or (kind, name) in SENT_AS_NULL)
    }
    if kind == "message":
        made = _message(made)
    elif kind == "reasoning" and made.get("content"):  # what another upstream shows of it; here it is encrypted
        del made["content"]
    elif isinstance(made.get("output"), list):
        made["output"] = [_part(part, INPUT_TEXT) for part in made["output"]]
    if isinstance(made.get("action"), dict):
        made["action"] = _without_nulls(made["action"])
    if "id" in made and not acceptable_id(kind, made["id"]):
        del made["id"]
    if isinstance(made.get("call_id"), str):
        made["call_id"] = call_id(made["call_id"])
    return made


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its type, with a role that the backend knows, and with its content in parts."""
    role, content = item.get("role"), item.get("content")
    made = {"type": "message", **item}
    if isinstance(role, str) and role in ROLES:
        made["role"] = role = ROLES[role]
    if isinstance(content, str):
        made["content"] = [_text_part(role, content)]
    elif isinstance(content, list):
        made["content"] = [_part(part, _text_type(role)) for part in content]
    return made


def _part(part: Any, text_type: str) -> Any:
    """A part of a content or an output, where texts have the type ``text_type``."""
    if not isinstance(part, dict):
        return part
    made = _without_nulls(part)
    kind = made.get("type")
    if not isinstance(kind, str) or kind not in TEXT_PARTS:
        return made
    return {
        name: value for name, value in {**made, "type": text_type}.items() if name not in LEFT_OUT_OF_TEXT[text_type]
    }


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


# --------------------------------------------------------------------------------------------------------------- ids
def _with_unique_ids(items: Iterable[Any]) -> list[Any]:
    """``items``, none of them with the id of an earlier one: "Duplicate item found with id ...". Upstreams there are
    that number from one in each answer, and the backend itself can do without ids."""
    seen: set[str] = set()
    made = []
    for item in items:
        own = item.get("id") if isinstance(item, dict) else None
        if own is not None and own in seen:
            item = {name: value for name, value in item.items() if name != "id"}
        elif own is not None:
            seen.add(own)
        made.append(item)
    return made


def _with_unique_call_ids(items: Iterable[Any]) -> Iterable[Any]:
    """``items``, where a call has another id than the calls that were answered before it: an output must not belong to
    two of them. The same history gives the same ids, however it goes on."""
    answered: set[str] = set()
    current: dict[str, str] = {}
    uses: dict[str, int] = {}
    for item in items:
        own = item.get("call_id") if isinstance(item, dict) else None
        if not isinstance(own, str):
            yield item
            continue
        if str(item.get("type")).endswith("_output"):
            answered.add(own)
        elif own in answered:
            answered.remove(own)
            uses[own] = uses.get(own, 1) + 1
            current[own] = _made_call_id(f"{own} {uses[own]}")
        yield {**item, "call_id": current[own]} if own in current else item


def acceptable_id(kind: Any, value: Any) -> bool:
    """Whether the backend takes ``value`` as the id of an item of this type; an item without an id is always fine."""
    if not isinstance(value, str) or len(value) > LONGEST_ID or not ID.fullmatch(value):
        return False
    prefix = ID_PREFIXES.get(kind) if isinstance(kind, str) else None
    return prefix is None or value.startswith(f"{prefix}_")


def call_id(value: str) -> str:
    """``value``, or what stands for it: clients make up ids that the backend does not take, and the same one has to
    come out for a call and its output."""
    if value and len(value) <= LONGEST_ID and ID.fullmatch(value):
        return value
    return _made_call_id(value)


def _made_call_id(seed: str) -> str:
    return f"call_{hashlib.sha256(seed.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


# ------------------------------------------------------------------------------------------------------------- tools
def offered(body: Mapping[str, Any], lite: bool) -> dict[str, Any]:
    """The fields of ``body`` about tools, as far as they have to change: with the tools by the CLI's names, without
    those that the backend refuses, and without a demand for what it would not find."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    changed: dict[str, Any] = {}
    left = tools
    if isinstance(tools, list):
        left = [_tool(tool) for tool in tools if _is_offered(tool, lite)]
        if left != tools:
            changed["tools"] = left
    chosen = _choice(choice, lite)
    if choice and isinstance(tools, list) and tools and not left:
        chosen = "auto"
    return {**changed, **({"tool_choice": chosen} if chosen != choice else {})}


def _tool(tool: Any) -> Any:
    """``tool`` by its usual name and without nulls."""
    if not isinstance(tool, dict):
        return tool
    made, kind = _without_nulls(tool), tool.get("type")
    return {**made, "type": TOOL_TYPES[kind]} if isinstance(kind, str) and kind in TOOL_TYPES else made


def _choice(choice: Any, lite: bool) -> Any:
    """``tool_choice`` in a form that the backend takes."""
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        allowed = [_tool(tool) for tool in choice["tools"] if _is_offered(tool, lite)]
        return {**choice, "tools": allowed} if allowed else "auto"
    kind = _tool(choice).get("type")
    unnameable = isinstance(kind, str) and kind in UNNAMEABLE_TOOLS
    return "auto" if unnameable or not _is_offered(choice, lite) else choice


def _is_offered(tool: Any, lite: bool) -> bool:
    """Whether the backend takes ``tool``; also for a ``tool_choice`` that names a tool by its type."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if not isinstance(kind, str):
        return True  # for the backend to say what is wrong with it
    return kind in LITE_TOOLS or (not lite and kind not in REFUSED_TOOLS)


def as_lite(body: Mapping[str, Any], items: Sequence[Any]) -> dict[str, Any]:
    """The form of responses-lite: tools and instructions lead the input.

    :param items: the input as ``input_items`` made it.
    :returns: what takes the place of the fields of ``body``; None for those that are to be left out.
    """
    tools, instructions, reasoning = body.get("tools"), body.get("instructions"), body.get("reasoning")
    leading: list[dict[str, Any]] = []
    if tools:
        leading.append({"type": "additional_tools", "role": "developer", "tools": tools})
    if instructions and isinstance(instructions, str):
        leading.append(message("developer", instructions))
        instructions = None
    return {
        "tools": None,
        "instructions": instructions or None,
        "input": [*leading, *items],
        "parallel_tool_calls": False,
        "reasoning": {**(reasoning if isinstance(reasoning, Mapping) else {}), "context": "all_turns"},
    }
