"""Convert a request of the Responses API to one for an upstream with the Messages API."""

from collections.abc import Mapping
from typing import Any

from floway_anthropic import search
from floway_anthropic.upstream.caching import add_marks
from floway_anthropic.upstream.history import convert_items
from floway_anthropic.upstream.schemas import fit_schema
from floway_core.contexts import ResponsesRequestContext
from floway_core.errors import GatewayError

Fields = dict[str, Any]

DEFAULT_MAX_TOKENS = 16_384
"""The output limit, which the API demands, if neither the client nor the upstream's model list has one."""
LARGEST_DEFAULT = 64_000

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_000, "max": 32_000}
"""Tokens of thinking for each effort, for models that take a budget."""
MIN_BUDGET = 1024
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
"""Efforts for models that choose the budget themselves."""

SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}

WEB_SEARCH = "web_search_20250305"
SEARCH_TYPES = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")
UNSUPPORTED_TOOLS = ("file_search", "mcp", "code_interpreter", "computer", "computer_use_preview")
"""Hosted tools that the Messages API does not have, or has in another form. A request with one is refused, because the
client relies on it. Other unknown tools are dropped."""

IGNORED = ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "top_logprobs", "max_tool_calls")
IGNORED_VALUES = {"truncation": ("disabled",), "service_tier": tuple(SERVICE_TIERS)}
"""Fields that are reported as ignored unless they have one of these values."""


def convert_request(ctx: ResponsesRequestContext, details: Mapping[str, Any]) -> Fields:
    """Convert the body of a request. Fields that cannot be honoured are reported with ``ctx.ignore``.

    :param details: the model's entry in the upstream's model list; empty if unknown.
    :raises GatewayError: 400, the request holds what the Messages API cannot express.
    """
    body = ctx.body
    conversation = convert_items(body.get("instructions"), body.get("input"))
    converted: Fields = {
        "model": body["model"],
        "max_tokens": _max_tokens(body, details),
        "messages": conversation.messages,
        "stream": True,
    }
    if conversation.system:
        converted["system"] = conversation.system
    converted |= _convert_tools(ctx)
    converted |= _convert_thinking(ctx, converted, details)
    converted |= _convert_format(ctx, converted)
    converted |= _convert_sampling(ctx, converted)
    if body.get("service_tier") in SERVICE_TIERS:
        converted["service_tier"] = SERVICE_TIERS[body["service_tier"]]
    user = body.get("safety_identifier") or body.get("user")
    if isinstance(user, str):
        converted["metadata"] = {"user_id": user}
    _report_ignored(ctx)
    add_marks(converted)
    return converted


def _max_tokens(body: Mapping[str, Any], details: Mapping[str, Any]) -> int:
    model_limit = details.get("max_tokens")
    limit = model_limit if isinstance(model_limit, int) and model_limit > 0 else None
    requested = body.get("max_output_tokens")
    if requested is not None:
        return min(int(requested), limit) if limit else int(requested)
    return min(limit, LARGEST_DEFAULT) if limit else DEFAULT_MAX_TOKENS


def _report_ignored(ctx: ResponsesRequestContext) -> None:
    ctx.ignore(*(name for name in IGNORED if ctx.body.get(name)))
    ctx.ignore(*(name for name, accepted in IGNORED_VALUES.items() if ctx.body.get(name) not in (None, *accepted)))


# --------------------------------------------------------------------------------------------------------------- tools
def _convert_tools(ctx: ResponsesRequestContext) -> Fields:
    body = ctx.body
    allowed = _allowed_names(body.get("tool_choice"))
    tools = []
    for index, tool in enumerate(body.get("tools") or []):
        if allowed is not None and _name(tool) not in allowed:
            continue
        converted = _convert_tool(tool, f"tools[{index}]")
        if converted is None:
            ctx.ignore(f"tools[{index}]")
        else:
            tools.append(converted)
    if not tools:
        return {}
    choice = _convert_choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools, **({"tool_choice": choice} if choice != {"type": "auto"} else {})}


def _convert_tool(tool: Mapping[str, Any], path: str) -> Fields | None:
    """Convert a tool; None if the upstream has no counterpart and the client can do without it."""
    kind = tool.get("type")
    common = {name: tool[name] for name in ("name", "description") if isinstance(tool.get(name), str)}
    if kind == "function":
        schema = tool.get("parameters")
        return {**common, "input_schema": {"type": "object", **(schema if isinstance(schema, dict) else {})}}
    if kind == "custom":
        text = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        return {**common, "input_schema": text}
    if kind in SEARCH_TYPES:
        return _convert_search(tool)
    if kind in UNSUPPORTED_TOOLS:
        message = f"Tools of type {kind!r} are not supported by upstreams with the Messages API."
        raise GatewayError(400, message, code="unsupported_value", param=path)
    return None


def _convert_search(tool: Mapping[str, Any]) -> Fields:
    converted: Fields = {"type": WEB_SEARCH, "name": search.NAME}
    filters, location = tool.get("filters"), tool.get("user_location")
    if isinstance(filters, dict) and filters.get("allowed_domains"):
        converted["allowed_domains"] = filters["allowed_domains"]
    if isinstance(location, dict):
        converted["user_location"] = {name: value for name, value in location.items() if value is not None}
    return converted


def _name(tool: Any) -> str:
    """Return the name by which ``tool_choice`` refers to a tool."""
    return str(tool.get("name") or tool.get("type")) if isinstance(tool, dict) else ""


def _allowed_names(choice: Any) -> set[str] | None:
    """Return the names of the tools that the model may call; None for all."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return None
    tools = choice.get("tools")
    return set(map(_name, tools)) if isinstance(tools, list) else None


_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def _convert_choice(choice: Any) -> Fields:
    if isinstance(choice, str):
        return {"type": _CHOICES.get(choice, "auto")}
    if not isinstance(choice, dict):
        return {"type": "auto"}
    if choice.get("type") == "allowed_tools":
        return {"type": _CHOICES.get(str(choice.get("mode")), "auto")}
    name = search.NAME if choice.get("type") in SEARCH_TYPES else choice.get("name")
    return {"type": "tool", "name": name} if isinstance(name, str) else {"type": "auto"}


# ------------------------------------------------------------------------------------------------------------ thinking
def _supports(details: Mapping[str, Any], *path: str) -> bool | None:
    """Return whether the model has a capability, according to the upstream's model list; None if the list omits it."""
    value: Any = details.get("capabilities")
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    supported = value.get("supported") if isinstance(value, dict) else None
    return supported if isinstance(supported, bool) else None


def _convert_thinking(ctx: ResponsesRequestContext, converted: Fields, details: Mapping[str, Any]) -> Fields:
    """Convert ``reasoning``. Thinking stays off with a forced tool: the Messages API forbids that combination."""
    reasoning = ctx.body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if effort is None or effort == "none" or _supports(details, "thinking") is False:
        return {}
    fields: Fields = {}
    if _supports(details, "effort"):
        fields["output_config"] = {"effort": EFFORTS.get(effort, "high")}
    if converted.get("tool_choice", {}).get("type") in ("any", "tool"):
        return fields
    if _supports(details, "thinking", "types", "adaptive"):
        wants_text = isinstance(reasoning, dict) and reasoning.get("summary") is not None
        return {**fields, "thinking": {"type": "adaptive", "display": "summarized" if wants_text else "omitted"}}
    budget = min(BUDGETS.get(effort, BUDGETS["high"]), converted["max_tokens"] * 3 // 4)  # leave tokens for the answer
    if budget < MIN_BUDGET or _lacks_thinking(converted["messages"]):
        ctx.ignore("reasoning.effort")
        return fields
    return {**fields, "thinking": {"type": "enabled", "budget_tokens": budget}}


def _lacks_thinking(messages: list[dict[str, Any]]) -> bool:
    """Return whether the conversation is in a tool loop whose calls have no thinking.

    The Messages API then refuses thinking: "Expected `thinking` or `redacted_thinking`, but found `tool_use`".
    """
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    if not answers or not any(block["type"] == "tool_result" for block in messages[-1]["content"]):
        return False
    return answers[-1][0]["type"] not in ("thinking", "redacted_thinking")


# -------------------------------------------------------------------------------------------------------------- output
def _convert_format(ctx: ResponsesRequestContext, converted: Fields) -> Fields:
    text = ctx.body.get("text")
    text = text if isinstance(text, dict) else {}
    if text.get("verbosity") not in (None, "medium"):
        ctx.ignore("text.verbosity")
    output = text.get("format")
    kind = output.get("type") if isinstance(output, dict) else "text"
    if kind == "json_schema" and isinstance(output, dict):
        schema = {"type": "json_schema", "schema": fit_schema(output.get("schema"))}
        return {"output_config": {**converted.get("output_config", {}), "format": schema}}
    if kind != "text":
        ctx.ignore("text.format")
    return {}


def _convert_sampling(ctx: ResponsesRequestContext, converted: Fields) -> Fields:
    """Convert ``temperature`` and ``top_p``: at most one of them, at most 1, and none for a model that thinks."""
    names = [name for name in ("temperature", "top_p") if ctx.body.get(name) is not None]
    if "thinking" in converted:
        ctx.ignore(*names)
        return {}
    ctx.ignore(*names[1:])
    return {name: min(1, ctx.body[name]) for name in names[:1]}
