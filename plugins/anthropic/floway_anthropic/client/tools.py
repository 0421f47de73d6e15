"""Convert ``tools`` and ``tool_choice`` of the Messages API to those of the Responses API."""

import re
from collections.abc import Mapping
from typing import Any

from floway_anthropic import search
from floway_anthropic.client.content import Untranslatable
from floway_anthropic.client.values import invalid, read_flag, read_list, read_object, read_objects, read_text
from floway_core.protocol.strict_schema import is_strict

Tool = dict[str, Any]
Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_LINE: Schema = {"type": "integer"}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


CLIENT_TOOLS: Mapping[str, tuple[str, Schema]] = {
    "bash": (
        "Run a command in a bash shell that lives as long as the conversation. With restart, start the shell anew.",
        _object((), command=_TEXT, restart={"type": "boolean"}),
    ),
    "text_editor": (
        "View, create and edit text files. Line numbers start at 1; a view_range that ends with -1 ends with the file.",
        _object(
            ("command", "path"),
            command={"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            path=_TEXT,
            file_text=_TEXT,
            old_str=_TEXT,
            new_str=_TEXT,
            insert_line=_LINE,
            insert_text=_TEXT,
            view_range={"type": "array", "items": _LINE},
        ),
    ),
    "memory": (
        "Keep notes in files below /memories, for later conversations. View the folder before other work.",
        _object(
            ("command",),
            command={"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
            path=_TEXT,
            file_text=_TEXT,
            old_str=_TEXT,
            new_str=_TEXT,
            insert_line=_LINE,
            insert_text=_TEXT,
            view_range={"type": "array", "items": _LINE},
            old_path=_TEXT,
            new_path=_TEXT,
        ),
    ),
}
"""Tools that clients run and that Anthropic's models know: description and schema for other models.

Source: the pages "Bash tool", "Text editor tool" and "Memory tool" of Anthropic's documentation.
"""

IGNORED_TOOLS = ("tool_search_tool_bm25", "tool_search_tool_regex", "advisor")
"""Hosted tools that a model can do without: searches in the tools of a request, which are all loaded from the start,
and the advice of another model."""

_VERSION = re.compile(r"_\d{8}$")
"""The version at the end of a tool type: ``bash_20250124``."""


def read_tools(value: Any) -> list[Tool]:
    """Convert ``tools``.

    :raises Untranslatable: a tool is one that only an upstream with the Messages API has.
    :raises GatewayError: 400, something is malformed.
    """
    tools = (_read_tool(tool, path) for path, tool in read_objects(value, "tools"))
    return [tool for tool in tools if tool is not None]


def _read_tool(tool: dict[str, Any], path: str) -> Tool | None:
    kind = tool.get("type")
    if kind in (None, "custom"):
        return _read_function(tool, path)
    base = _VERSION.sub("", read_text(kind, f"{path}.type"))
    if base == search.NAME:
        return _read_web_search(tool, path)
    if base in CLIENT_TOOLS:
        description, schema = CLIENT_TOOLS[base]
        name = read_text(tool.get("name"), f"{path}.name")
        return {"type": "function", "name": name, "description": description, "parameters": schema, "strict": False}
    if base in IGNORED_TOOLS or kind in IGNORED_TOOLS:
        return None
    raise Untranslatable(f"{path}.type", f"The tool type {kind!r}")


def _read_function(tool: dict[str, Any], path: str) -> Tool:
    function = {"type": "function", "name": read_text(tool.get("name"), f"{path}.name")}
    if tool.get("description") is not None:
        function["description"] = read_text(tool["description"], f"{path}.description")
    schema = read_object(tool.get("input_schema"), f"{path}.input_schema")
    strict = read_flag(tool.get("strict"), f"{path}.strict") and is_strict(schema)
    return {**function, "parameters": schema, "strict": strict}


def _read_web_search(tool: dict[str, Any], path: str) -> Tool:
    converted: Tool = {"type": search.NAME}
    if tool.get("blocked_domains"):
        raise Untranslatable(f"{path}.blocked_domains", "The field 'blocked_domains'")
    if tool.get("allowed_domains"):
        domains = read_list(tool["allowed_domains"], f"{path}.allowed_domains")
        converted["filters"] = {"allowed_domains": domains}
    if tool.get("user_location"):
        location = read_object(tool["user_location"], f"{path}.user_location")
        converted["user_location"] = {**location, "type": "approximate"}
    return converted


# ------------------------------------------------------------------------------------------------------------- choice
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def read_tool_choice(value: Any, tools: list[Tool]) -> dict[str, Any]:
    """Convert ``tool_choice``.

    :param tools: the converted tools.
    :returns: fields of the request.
    :raises GatewayError: 400, it is malformed.
    """
    choice = read_object(value, "tool_choice")
    kind = read_text(choice.get("type"), "tool_choice.type")
    fields: dict[str, Any] = {}
    if kind == "tool":
        name = read_text(choice.get("name"), "tool_choice.name")
        is_search = name == search.NAME and any(tool["type"] == search.NAME for tool in tools)
        fields["tool_choice"] = {"type": search.NAME} if is_search else {"type": "function", "name": name}
    elif kind in _CHOICES:
        fields["tool_choice"] = _CHOICES[kind]
    else:
        raise invalid("tool_choice.type", "Input should be 'auto', 'any', 'tool' or 'none'.")
    if read_flag(choice.get("disable_parallel_tool_use"), "tool_choice.disable_parallel_tool_use"):
        fields["parallel_tool_calls"] = False
    return fields
