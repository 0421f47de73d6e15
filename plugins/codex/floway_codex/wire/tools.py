"""Conversion of tools and the choice of one to what the CLI sends and the backend offers."""

from collections.abc import Mapping
from typing import Any

from floway_codex.wire.items import without_nulls

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
    converted, kind = without_nulls(tool) if None in tool.values() else tool, tool.get("type")
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
