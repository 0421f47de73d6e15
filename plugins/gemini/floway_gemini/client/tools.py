"""Convert ``tools`` and ``toolConfig`` of the generateContent API to the tools of the Responses API."""

from typing import Any

from floway_gemini.client.names import to_tool_name
from floway_gemini.client.schemas import to_json_schema
from floway_gemini.client.untranslatable import Untranslatable
from floway_gemini.fields import Message, find, invalid, snake_case

Tool = dict[str, Any]

SEARCH = "web_search"
SEARCHES = ("googleSearch", "googleSearchRetrieval")
"""Tools that become the web search of the upstream."""
UNTRANSLATABLE_TOOLS = (
    "codeExecution",
    "urlContext",
    "fileSearch",
    "computerUse",
    "googleMaps",
    "retrieval",
    "enterpriseWebSearch",
    "mcpServers",
)
"""Hosted tools of Google that other upstreams do not have."""
MODES = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")


def read_tools(request: Message) -> list[Tool]:
    """Convert ``tools``.

    :raises Untranslatable: a tool is one that only an upstream with this API has.
    :raises GatewayError: 400, something is malformed.
    """
    tools: list[Tool] = []
    for tool in request.messages("tools"):
        for name in UNTRANSLATABLE_TOOLS:
            if tool.get(name) is not None:
                raise Untranslatable(tool.path(name), f"The tool {name!r}")
        tools += [_read_function(function) for function in tool.messages("functionDeclarations")]
        if any(tool.get(name) is not None for name in SEARCHES) and {"type": SEARCH} not in tools:
            tools.append({"type": SEARCH})
    return tools


def function_names(body: dict[str, Any]) -> list[str]:
    """Return the client's names of the functions in a request, which may be malformed."""
    names: list[str] = []
    tools = find(body, "tools")
    for tool in tools if isinstance(tools, list) else []:
        functions = find(tool, "functionDeclarations") if isinstance(tool, dict) else None
        entries = [entry for entry in functions if isinstance(entry, dict)] if isinstance(functions, list) else []
        names += [name for entry in entries if isinstance(name := entry.get("name"), str)]
    return names


def _read_function(function: Message) -> Tool:
    converted: Tool = {"type": "function", "name": to_tool_name(function.required_text("name"))}
    if description := function.text("description"):
        converted["description"] = description
    if schema := function.message("parametersJsonSchema"):
        parameters = schema.fields
    else:
        declared = function.message("parameters")
        parameters = to_json_schema(declared.fields) if declared else {}
    return {**converted, "parameters": parameters or {"type": "object", "properties": {}}, "strict": False}


def read_tool_choice(request: Message, tools: list[Tool]) -> dict[str, Any]:
    """Convert ``toolConfig``.

    :param tools: the converted tools.
    :returns: fields of the request.
    :raises GatewayError: 400, it is malformed.
    """
    config = request.message("toolConfig")
    calling = config.message("functionCallingConfig") if config else None
    if calling is None:
        return {}
    mode = calling.choice("mode", MODES) or "AUTO"
    allowed = [to_tool_name(name) for name in calling.texts("allowedFunctionNames")]
    declared = {tool["name"] for tool in tools if tool["type"] == "function"}
    for at, name in enumerate(allowed):
        if name not in declared:
            path = f"{calling.path('allowedFunctionNames')}[{at}]"
            raise invalid(path, f"{snake_case('allowedFunctionNames')} should be a subset of the declared functions.")
    if not tools:
        return {}
    if mode == "NONE":
        return {"tool_choice": "none"}
    choice = "required" if mode == "ANY" else "auto"
    if not allowed:
        return {"tool_choice": choice}
    if len(allowed) == 1 and mode == "ANY":
        return {"tool_choice": {"type": "function", "name": allowed[0]}}
    references = [{"type": "function", "name": name} for name in allowed]
    return {"tool_choice": {"type": "allowed_tools", "mode": choice, "tools": references}}
