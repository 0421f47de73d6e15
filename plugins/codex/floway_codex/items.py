"""Input items and tools in the form that the backend takes."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from floway_core.protocol.items import is_bare

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

REFUSED_TOOLS = frozenset({"code_interpreter", "computer", "computer_use_preview", "file_search", "mcp"})
"""Tools that need what the backend does not offer to this kind of account: files, containers, connectors."""
LITE_TOOLS = frozenset({"custom", "function", "namespace", "tool_search"})
"""The only tools that responses-lite takes."""


def input_items(given: Any) -> Any:
    """``input`` as the list of items that the backend wants."""
    if isinstance(given, str):
        return [message("user", given)]
    if isinstance(given, list):
        return [_item(item) for item in given if not _is_name(item)]
    return given


def message(role: str, text: str) -> dict[str, Any]:
    """A message with one text in it."""
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def _is_name(item: Any) -> bool:
    """Whether an item only names another one, or reasoning. Nothing is stored upstream that it could mean."""
    return isinstance(item, dict) and (item.get("type") == "item_reference" or is_bare(item))


def _item(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message" and item.get("role") == "system":
        item = {**item, "role": "developer"}  # "System messages are not allowed"
    if "id" in item and not acceptable_id(kind, item["id"]):
        item = {key: value for key, value in item.items() if key != "id"}
    if isinstance(item.get("call_id"), str):
        item = {**item, "call_id": call_id(item["call_id"])}
    return item


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
    return f"call_{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


# ------------------------------------------------------------------------------------------------------------- tools
def offered(body: Mapping[str, Any], lite: bool) -> dict[str, Any]:
    """The fields of ``body`` about tools, without the tools that the backend refuses, and without a demand for them."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not isinstance(tools, list):
        return {}
    kept = [tool for tool in tools if _taken(tool, lite)]
    if kept == tools:
        return {}
    names_missing = isinstance(choice, dict) and not _taken(choice, lite)
    return {"tools": kept, **({"tool_choice": "auto"} if names_missing or (choice and not kept) else {})}


def _taken(tool: Any, lite: bool) -> bool:
    """Also for a ``tool_choice`` that names a tool by its type."""
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
