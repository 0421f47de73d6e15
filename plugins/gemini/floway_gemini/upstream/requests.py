"""Convert a request of the Responses API to one for an upstream with the generateContent API."""

from collections.abc import Mapping
from typing import Any

from floway_core.contexts import ResponsesRequestContext
from floway_core.errors import GatewayError
from floway_gemini.upstream.history import convert_items
from floway_gemini.upstream.pass_through import generation_of

Fields = dict[str, Any]

BUDGETS = {"minimal": 512, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
"""Tokens of thinking for each effort, for models before the third generation."""
LEVELS = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
"""Levels of thinking for each effort, for models of the third generation and later, which always think."""

SEARCH_TYPES = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")
UNSUPPORTED_TOOLS = ("file_search", "mcp", "code_interpreter", "computer", "computer_use_preview")
"""Hosted tools that this API does not have, or has in another form. A request with one is refused, because the client
relies on it. Other unknown tools are dropped."""

IGNORED = (
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "top_logprobs",
    "max_tool_calls",
    "safety_identifier",
    "user",
)
IGNORED_VALUES = {"truncation": ("disabled",), "parallel_tool_calls": (True,), "service_tier": ("auto", "default")}
"""Fields that are reported as ignored unless they have one of these values."""
SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}


def convert_request(ctx: ResponsesRequestContext, details: Mapping[str, Any]) -> Fields:
    """Convert the body of a request. Fields that cannot be honoured are reported with ``ctx.ignore``.

    :param details: the model's entry in the upstream's model list; empty if unknown.
    :raises GatewayError: 400, the request holds what this API cannot express.
    """
    body = ctx.body
    conversation = convert_items(body.get("instructions"), body.get("input"), ctx.attempt.model)
    converted: Fields = {"contents": conversation.contents}
    if conversation.instructions:
        converted["systemInstruction"] = {"parts": [{"text": text} for text in conversation.instructions]}
    converted |= _convert_tools(ctx)
    config: Fields = {target: body[name] for name, target in SAMPLING.items() if body.get(name) is not None}
    if body.get("max_output_tokens") is not None:
        config["maxOutputTokens"] = int(body["max_output_tokens"])
    config |= _convert_thinking(ctx, details) | _convert_format(ctx)
    if config:
        converted["generationConfig"] = config
    _report_ignored(ctx)
    return converted


def _report_ignored(ctx: ResponsesRequestContext) -> None:
    ctx.ignore(*(name for name in IGNORED if ctx.body.get(name)))
    ctx.ignore(*(name for name, accepted in IGNORED_VALUES.items() if ctx.body.get(name) not in (None, *accepted)))


# --------------------------------------------------------------------------------------------------------------- tools
def _convert_tools(ctx: ResponsesRequestContext) -> Fields:
    body = ctx.body
    functions, searches = [], []
    for index, tool in enumerate(body.get("tools") or []):
        kind = tool.get("type")
        if kind in ("function", "custom"):
            functions.append(_convert_function(tool))
        elif kind in SEARCH_TYPES:
            searches.append(f"tools[{index}]")
        elif kind in UNSUPPORTED_TOOLS:
            message = f"Tools of type {kind!r} are not supported by upstreams with the generateContent API."
            raise GatewayError(400, message, code="unsupported_value", param=f"tools[{index}]")
        else:
            ctx.ignore(f"tools[{index}]")
    if functions:
        ctx.ignore(*searches)  # models take a search or functions, not both
        choice = _convert_choice(body.get("tool_choice"))
        config = {"toolConfig": {"functionCallingConfig": choice}} if choice else {}
        return {"tools": [{"functionDeclarations": functions}], **config}
    return {"tools": [{"googleSearch": {}}]} if searches else {}


def _convert_function(tool: Mapping[str, Any]) -> Fields:
    common = {name: tool[name] for name in ("name", "description") if isinstance(tool.get(name), str)}
    schema = tool.get("parameters")
    if tool.get("type") == "custom":
        schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return {**common, "parametersJsonSchema": {"type": "object", **(schema if isinstance(schema, dict) else {})}}


_MODES = {"required": "ANY", "none": "NONE"}


def _convert_choice(choice: Any) -> Fields:
    """Convert ``tool_choice``; empty if the model chooses."""
    if isinstance(choice, str):
        return {"mode": _MODES[choice]} if choice in _MODES else {}
    if not isinstance(choice, dict):
        return {}
    tools = choice.get("tools") if choice.get("type") == "allowed_tools" else [choice]
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    allowed = [name for name in names if isinstance(name, str)]
    if not allowed:
        return {}
    is_forced = choice.get("type") != "allowed_tools" or choice.get("mode") == "required"
    return {"mode": "ANY" if is_forced else "VALIDATED", "allowedFunctionNames": allowed}


# -------------------------------------------------------------------------------------------------------------- config
def _convert_thinking(ctx: ResponsesRequestContext, details: Mapping[str, Any]) -> Fields:
    reasoning = ctx.body.get("reasoning")
    if not isinstance(reasoning, dict):
        return {}
    if details and not details.get("thinking"):  # the model list marks models that can think
        ctx.ignore("reasoning.effort")
        return {}
    effort, thinking = reasoning.get("effort"), Fields()
    if isinstance(effort, str):
        generation = generation_of(ctx.attempt.model)
        if generation is not None and generation >= 3:
            thinking["thinkingLevel"] = LEVELS.get(effort, "HIGH")
        else:
            thinking["thinkingBudget"] = 0 if effort == "none" else BUDGETS.get(effort, BUDGETS["high"])
    if reasoning.get("summary") is not None and effort != "none":
        thinking["includeThoughts"] = True
    return {"thinkingConfig": thinking} if thinking else {}


def _convert_format(ctx: ResponsesRequestContext) -> Fields:
    text = ctx.body.get("text")
    text = text if isinstance(text, dict) else {}
    if text.get("verbosity") not in (None, "medium"):
        ctx.ignore("text.verbosity")
    output = text.get("format")
    kind = output.get("type") if isinstance(output, dict) else "text"
    if kind == "json_schema" and isinstance(output, dict) and isinstance(output.get("schema"), dict):
        return {"responseMimeType": "application/json", "responseJsonSchema": output["schema"]}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind != "text":
        ctx.ignore("text.format")
    return {}
