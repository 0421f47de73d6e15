"""Convert the tools of a Responses request for a chat server, and its calls of them back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

NAMESPACE_SEPARATOR = "__"
"""Between the name of a namespace and that of its function, in the one name that a chat server knows."""

DEFAULT_NAMESPACE = "functions"
"""The namespace of functions that have none. Clients may state it for tools, but not in calls of them."""

ADDITIONAL_TOOLS = "additional_tools"
"""The type of an item with further tools. Some clients send all their tools there."""

CUSTOM_PARAMETERS = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The input of the tool, as it is."}},
    "required": ["input"],
}
"""The schema of a custom tool for a server that knows only functions."""


@dataclass(frozen=True)
class Tool:
    """A tool of the client."""

    name: str
    namespace: str | None = None
    is_custom: bool = False
    """Whether its input is a text instead of JSON."""
    is_wrapped: bool = False
    """Whether the server knows a custom tool as a function, with the text as its argument ``input``."""


@dataclass
class ToolTable:
    """The tools of one request."""

    by_wire_name: dict[str, Tool] = field(default_factory=dict)
    """By the name that the server uses."""
    definitions: list[dict[str, Any]] = field(default_factory=list)
    """The tools for the server."""
    ignored: list[str] = field(default_factory=list)
    """Paths of the hosted tools, such as ``tools[2]``, which the server cannot run."""

    def find(self, name: str) -> Tool:
        """Return the tool that the server calls by ``name``. A name that the client does not know is a function's."""
        return self.by_wire_name.get(name) or Tool(name)


def read_tools(body: Mapping[str, Any], custom_tools: bool) -> ToolTable:
    """Convert the tools of a Responses request: those in ``tools``, and those in ``additional_tools`` items.

    :param custom_tools: whether the server knows custom tools.
    """
    reader = _ToolReader(custom_tools)
    reader.add_all(body.get("tools"), "tools")
    for position, item in enumerate(body.get("input") or ()):
        if isinstance(item, dict) and item.get("type") == ADDITIONAL_TOOLS:
            reader.add_all(item.get("tools"), f"input[{position}].tools")
    return reader.table


def wire_name(name: Any, namespace: Any = None) -> str:
    """Return the name by which a chat server knows a function."""
    return f"{namespace}{NAMESPACE_SEPARATOR}{name}" if namespace and namespace != DEFAULT_NAMESPACE else str(name)


class _ToolReader:
    """Fills a table. A tool replaces an earlier one with the same name, at its position."""

    def __init__(self, custom_tools: bool) -> None:
        self.table = ToolTable()
        self._custom_tools = custom_tools
        self._positions: dict[str, int] = {}
        """Positions in ``table.definitions`` by name."""

    def add_all(self, tools: Any, path: str, namespace: str | None = None) -> None:
        """Add a list of tools."""
        for index, tool in enumerate(tools if isinstance(tools, list) else ()):
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind == "function":
                self._add_function(tool, namespace)
            elif kind == "custom":
                self._add_custom(tool, namespace)
            elif kind == "namespace":
                self.add_all(tool.get("tools"), f"{path}[{index}].tools", str(tool.get("name") or ""))
            else:
                self.table.ignored.append(f"{path}[{index}]")

    def _add(self, tool: Tool, definitions: dict[str, Any]) -> None:
        name = _tool_name(definitions)
        self.table.by_wire_name[name] = tool
        position = self._positions.setdefault(name, len(self._positions))
        self.table.definitions[position : position + 1] = [definitions]

    def _add_function(self, tool: Mapping[str, Any], namespace: str | None) -> None:
        function = {
            "name": wire_name(tool.get("name"), namespace),
            "parameters": tool.get("parameters") or {"type": "object", "properties": {}},
        }
        function |= {field: tool[field] for field in ("description", "strict") if tool.get(field) is not None}
        self._add(Tool(str(tool.get("name")), _stated_namespace(namespace)), {"type": "function", "function": function})

    def _add_custom(self, tool: Mapping[str, Any], namespace: str | None) -> None:
        name, format = wire_name(tool.get("name"), namespace), tool.get("format")
        description = str(tool.get("description") or "")
        entry = Tool(
            str(tool.get("name")), _stated_namespace(namespace), is_custom=True, is_wrapped=not self._custom_tools
        )
        if self._custom_tools:
            custom: dict[str, Any] = {"name": name, **({"description": description} if description else {})}
            if isinstance(format, dict):
                custom["format"] = _write_format(format)
            self._add(entry, {"type": "custom", "custom": custom})
            return
        if isinstance(format, dict) and format.get("definition"):
            grammar = f"The input follows this {format.get('syntax')} grammar:\n{format['definition']}"
            description = f"{description}\n\n{grammar}"
        function = {"name": name, "description": description.strip(), "parameters": CUSTOM_PARAMETERS}
        self._add(entry, {"type": "function", "function": function})


def _stated_namespace(namespace: str | None) -> str | None:
    """Return the namespace for calls of a function to the client; None for the default namespace."""
    return None if namespace == DEFAULT_NAMESPACE else namespace


def _write_format(format: Mapping[str, Any]) -> dict[str, Any]:
    if format.get("type") != "grammar":
        return {"type": format.get("type")}
    return {"type": "grammar", "grammar": {name: format.get(name) for name in ("syntax", "definition")}}


def write_choice(choice: Any, table: ToolTable, required: str) -> Any:
    """Convert ``tool_choice``, and remove tools that it does not allow from ``table.definitions``.

    :param required: how the server spells ``required``.
    :raises GatewayError: 400, it names a tool that the server does not have.
    """
    if isinstance(choice, str):
        return required if choice == "required" else choice
    if not isinstance(choice, dict):
        return None
    if choice.get("type") == "allowed_tools":
        allowed = {_tool_name(tool) for tool in choice.get("tools") or () if isinstance(tool, dict)}
        table.definitions[:] = [tool for tool in table.definitions if _tool_name(tool) in allowed]
        return write_choice(choice.get("mode") or "auto", table, required)
    name = _tool_name(choice)
    if choice.get("type") not in ("function", "custom") or name not in table.by_wire_name:
        message = "The upstream offers functions and custom tools of the request only."
        raise GatewayError(400, message, param="tool_choice", code="unsupported_value")
    tool = table.by_wire_name[name]
    kind = "custom" if tool.is_custom and not tool.is_wrapped else "function"
    return {"type": kind, kind: {"name": name}}


def _tool_name(tool: Mapping[str, Any]) -> str:
    """Return the wire name of a tool of either API, or of a reference to one."""
    for kind in ("function", "custom"):
        if isinstance(inner := tool.get(kind), dict):
            return str(inner.get("name"))
    return wire_name(tool.get("name"), tool.get("namespace"))


def call_id(item: Mapping[str, Any]) -> str:
    """Return the id of a call, of its item or of its output."""
    return str(item.get("call_id") or "")


def write_call(item: Mapping[str, Any], custom_tools: bool) -> dict[str, Any]:
    """Convert the item of a call to an entry of ``tool_calls``."""
    name = wire_name(item.get("name"), item.get("namespace"))
    if item.get("type") == "function_call":
        arguments = item.get("arguments")
        text = arguments if isinstance(arguments, str) else jsontext.dumps(arguments or {}).decode()
        return {"id": call_id(item), "type": "function", "function": {"name": name, "arguments": text}}
    value = str(item.get("input") or "")
    if custom_tools:
        return {"id": call_id(item), "type": "custom", "custom": {"name": name, "input": value}}
    arguments = json.dumps({"input": value}, ensure_ascii=False)
    return {"id": call_id(item), "type": "function", "function": {"name": name, "arguments": arguments}}


def unwrap_input(arguments: str) -> str:
    """Return the input of a custom tool from a call of its function; unchanged if it is not wrapped."""
    try:
        value = jsontext.loads(arguments.encode("utf-8", "surrogatepass"))
    except ValueError:
        return arguments
    if isinstance(value, dict) and isinstance(value.get("input"), str):
        return str(value["input"])
    return value if isinstance(value, str) else arguments
