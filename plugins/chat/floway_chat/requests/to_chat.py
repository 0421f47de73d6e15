"""Convert a request of the Responses API to a chat request for a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_chat.quirks import Quirks
from floway_chat.requests.items import write_messages
from floway_chat.requests.to_responses import LOGPROBS
from floway_chat.requests.tools import ToolTable, read_tools, write_choice
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

COMMON_FIELDS = ("frequency_penalty", "parallel_tool_calls", "presence_penalty", "temperature", "top_p")
"""Fields with the same name and meaning in both APIs that all servers accept or ignore."""

EXTENSIONS = (
    "chat_template_kwargs",
    "logit_bias",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "thinking",
    "top_k",
)
"""Fields of chat servers that the Responses API does not have. They are passed to the server."""

OPTIONAL_FIELDS = (
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
)
"""Fields with the same name that only some servers accept (``Quirks.fields``)."""

NOT_EXPRESSIBLE = ("context_management", "max_tool_calls", "prompt_cache_options", "truncation")
"""Fields without a counterpart. They are ignored."""


@dataclass(frozen=True)
class ChatRequest:
    """A request for a chat server."""

    body: dict[str, Any]
    tools: ToolTable
    """To convert calls of them back."""
    ignored: tuple[str, ...]
    """Paths of the fields that have no effect on the server."""


def write_request(body: Mapping[str, Any], quirks: Quirks) -> ChatRequest:
    """Convert a request of the Responses API, with the upstream's name of the model.

    :raises GatewayError: 400, something that the answer depends on has no counterpart.
    """
    if body.get("prompt"):
        message = "The upstream speaks Chat Completions, which has no stored prompts."
        raise GatewayError(400, message, param="prompt", code="unsupported_parameter")
    tools = read_tools(body, quirks.custom_tools)
    choice = write_choice(body.get("tool_choice"), tools, quirks.required)
    ignored = [*tools.ignored, *NOT_EXPRESSIBLE]
    result: dict[str, Any] = {"model": body["model"]}
    result["messages"] = write_messages(_instructions(body, quirks), body.get("input") or [], quirks)
    names = (*COMMON_FIELDS, *EXTENSIONS, *(name for name in OPTIONAL_FIELDS if name in quirks.fields))
    result |= {name: body[name] for name in names if body.get(name) is not None}
    ignored += [name for name in OPTIONAL_FIELDS if name not in quirks.fields]
    if body.get("max_output_tokens") is not None:
        result[quirks.max_tokens] = body["max_output_tokens"]
    ignored += _write_logprobs(result, body)
    ignored += _write_text(result, body.get("text"), quirks)
    ignored += _write_reasoning(result, body.get("reasoning"), quirks)
    if tools.definitions:
        result["tools"] = tools.definitions
        if choice is not None:
            result["tool_choice"] = choice
    else:
        result.pop("parallel_tool_calls", None)
    if body.get("stream"):
        result |= {"stream": True, "stream_options": {"include_usage": True}}
    ignored += [name for name in quirks.unsupported if name in result and name != "stream_options"]
    for name in quirks.unsupported:
        result.pop(name, None)
    return ChatRequest(result, tools, tuple(ignored))


def _instructions(body: Mapping[str, Any], quirks: Quirks) -> str:
    """Return the instructions. For a server without JSON schemas they include the schema of the answer."""
    instructions = body.get("instructions")
    texts = [instructions] if isinstance(instructions, str) and instructions else []
    format = _format(body.get("text"))
    if format.get("type") == "json_schema" and not quirks.json_schema:
        schema = jsontext.dumps(format.get("schema")).decode()
        texts.append(f"Answer with one JSON object that is valid against this JSON schema:\n{schema}")
    return "\n\n".join(texts)


def _format(text: Any) -> Mapping[str, Any]:
    format = text.get("format") if isinstance(text, dict) else None
    return format if isinstance(format, dict) else {}


def _write_text(result: dict[str, Any], text: Any, quirks: Quirks) -> list[str]:
    """Write format and verbosity; return the paths of ignored fields."""
    format = _format(text)
    if format.get("type") == "json_schema" and quirks.json_schema:
        names = ("name", "description", "schema", "strict")
        schema = {name: format[name] for name in names if format.get(name) is not None}
        result["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif format.get("type") in ("json_schema", "json_object"):
        result["response_format"] = {"type": "json_object"}
    verbosity = text.get("verbosity") if isinstance(text, dict) else None
    if verbosity is None:
        return []
    if "verbosity" not in quirks.fields:
        return ["text.verbosity"]
    result["verbosity"] = verbosity
    return []


def _write_reasoning(result: dict[str, Any], reasoning: Any, quirks: Quirks) -> list[str]:
    """Write the effort; return the paths of ignored fields."""
    if not isinstance(reasoning, dict):
        return []
    if isinstance(effort := reasoning.get("effort"), str):
        for name, value in quirks.write_effort(effort).items():
            existing = result.get(name)
            result[name] = {**value, **existing} if isinstance(value, dict) and isinstance(existing, dict) else value
    return ["reasoning.summary"] if reasoning.get("summary") is not None else []


def _write_logprobs(result: dict[str, Any], body: Mapping[str, Any]) -> list[str]:
    """Write the request for log probabilities; return the paths of ignored fields."""
    include = [name for name in body.get("include") or () if name != "reasoning.encrypted_content"]
    if LOGPROBS in include:
        result["logprobs"] = True
        if body.get("top_logprobs") is not None:
            result["top_logprobs"] = body["top_logprobs"]
        include.remove(LOGPROBS)
    return ["include"] if include else []
