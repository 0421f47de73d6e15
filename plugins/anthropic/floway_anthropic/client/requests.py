"""Convert a request of the Messages API to one of the Responses API."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from floway_anthropic import search
from floway_anthropic.client.content import Untranslatable, check_messages, read_messages, read_system
from floway_anthropic.client.tools import read_tool_choice, read_tools
from floway_anthropic.client.values import (
    invalid,
    read_choice,
    read_flag,
    read_integer,
    read_list,
    read_number,
    read_object,
    read_text,
)
from floway_core.dialect import DialectRequest, ReadRequest
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.strict_schema import is_strict

Fields = dict[str, Any]

MIN_OUTPUT_TOKENS = 16
"""The smallest limit of the Responses API. Smaller ones are raised to it: clients send 1 to test a key."""

EFFORTS = ("low", "medium", "high", "xhigh", "max")
EFFORT_OF_BUDGET = ((4096, "low"), (16384, "medium"))
"""The most ``thinking.budget_tokens`` for each effort, ascending; above the last one, the effort is ``high``."""

THINKING_TYPES = ("enabled", "adaptive", "between_tools", "disabled")

UNTRANSLATABLE_FIELDS = ("container", "mcp_servers", "fallbacks", "user_profile_id", "workspace_id")
"""Fields that change the meaning of a request, and that only upstreams with the Messages API implement."""

IGNORED_FIELDS = (
    "cache_control",
    "context_management",
    "compaction",
    "diagnostics",
    "fallback_credit_token",
    "billing_policy",
    "inference_geo",
    "speed",
    "top_k",
    "betas",
)
"""Fields that only tune a request. They have no effect on upstreams of other kinds."""

INCLUDE = ["reasoning.encrypted_content"]
INCLUDE_SOURCES = "web_search_call.action.sources"


def read_request(request: DialectRequest, *, counts: bool = False) -> ReadRequest:
    """Convert a request.

    If the request contains something unknown, which may be wrong or newer than this package, only upstreams with the
    Messages API can serve it: they get the original. For all others, the client gets the error in ``untranslatable``.

    :param counts: whether the request counts tokens; then ``max_tokens`` is optional.
    :raises GatewayError: 400, a field that every request has is malformed; ``param`` names it.
    """
    body = request.body
    check_body(body, counts=counts)
    try:
        converted, untranslatable = convert_body(body), None
    except GatewayError as error:
        converted, untranslatable = {"input": [], **_read_limits(body)}, error
    return ReadRequest(
        body={"model": body["model"], "stream": body.get("stream") is True, **converted},
        stream=body.get("stream") is True,
        conversation_hint=read_conversation_hint(request.headers, body.get("metadata")),
        restores_reasoning=True,  # even clients that show it do not get all of it (``thinking.is_hidden``)
        required_fields=required_tools(converted.get("tools") or []),
        dropped_fields=[name for name in IGNORED_FIELDS if body.get(name) is not None],
        untranslatable=untranslatable,
    )


def required_tools(tools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the hosted tools that the upstream must have.

    Clients of the Messages API send the web search tool only for a search. A model without it would invent the results.

    :param tools: the converted ones.
    """
    positions = (index for index, tool in enumerate(tools) if tool["type"] == search.NAME)
    return {f"tools[{index}]": f"The tool {search.NAME!r}" for index in positions}


def check_body(body: Mapping[str, Any], *, counts: bool = False) -> None:
    """Check the fields that every request has.

    :raises GatewayError: 400, one is missing or malformed, or the request asks for a thread.
    """
    if not read_text(body.get("model"), "model"):
        raise invalid("model", "Input should have at least 1 character.")
    if not counts:
        read_integer(body.get("max_tokens"), "max_tokens", 0)
    check_messages(body.get("messages"))
    read_flag(body.get("stream"), "stream")
    if body.get("thread") is not None:
        raise ThreadUnsupported()


class ThreadUnsupported(GatewayError):
    """The client wants the server to store the conversation. Its SDK resends all messages when it reads the code."""

    CODE = "thread_unsupported_request"

    def __init__(self) -> None:
        super().__init__(400, "Threads are not supported: send all messages.", param="thread", code=self.CODE)


def convert_body(body: Mapping[str, Any]) -> Fields:
    """Convert the fields of a request, except ``model`` and ``stream``.

    :raises Untranslatable: it holds what only an upstream with the Messages API understands.
    :raises GatewayError: 400, something is malformed.
    """
    for name in UNTRANSLATABLE_FIELDS:
        if body.get(name):
            raise Untranslatable(name, f"The field {name!r}")
    converted: Fields = {"input": read_messages(body["messages"])}
    if body["messages"][-1].get("role") == "assistant":
        path = f"messages[{len(body['messages']) - 1}]"
        raise Untranslatable(path, "A last message of the assistant, to be continued (prefill),")
    if instructions := read_system(body.get("system")):
        converted["instructions"] = instructions
    converted |= _read_tool_fields(body)
    converted |= _read_limits(body)
    for name, read_field in _TUNING.items():
        if body.get(name) is not None:
            converted |= read_field(body[name], name)
    if reasoning := read_reasoning(body):
        converted["reasoning"] = reasoning
    return converted


def _read_tool_fields(body: Mapping[str, Any]) -> Fields:
    fields: Fields = {"include": list(INCLUDE)}
    tools = read_tools(body["tools"]) if body.get("tools") is not None else []
    if tools:
        fields["tools"] = tools
    if any(tool["type"] == search.NAME for tool in tools):
        fields["include"].append(INCLUDE_SOURCES)
    if body.get("tool_choice") is not None:
        choice = read_tool_choice(body["tool_choice"], tools)
        fields |= choice if tools else {}
    return fields


def _read_limits(body: Mapping[str, Any]) -> Fields:
    if body.get("max_tokens") is None:
        return {}
    return {"max_output_tokens": max(MIN_OUTPUT_TOKENS, read_integer(body["max_tokens"], "max_tokens", 0))}


# -------------------------------------------------------------------------------------------------------------- tuning
def _read_format(value: Any, path: str) -> Fields:
    """Convert the output format. The Responses API restricts strict schemas more than the Messages API."""
    output = read_object(value, path)
    read_choice(output.get("type"), f"{path}.type", ("json_schema",))
    schema = read_object(output.get("schema"), f"{path}.schema")
    converted = {"type": "json_schema", "name": "output", "schema": schema, "strict": is_strict(schema)}
    return {"text": {"format": converted}}


def _read_output_config(value: Any, path: str) -> Fields:
    output = read_object(value, path)
    return _read_format(output["format"], f"{path}.format") if output.get("format") is not None else {}


def _read_service_tier(value: Any, path: str) -> Fields:
    return {"service_tier": {"auto": "auto", "standard_only": "default"}[read_choice(value, path, SERVICE_TIERS)]}


def _check_stop_sequences(value: Any, path: str) -> Fields:
    """Check them before anything is sent. The Responses API has no field for them."""
    read_stop_sequences(value)
    return {}


SERVICE_TIERS = ("auto", "standard_only")

_TUNING: Mapping[str, Callable[[Any, str], Fields]] = {
    "temperature": lambda value, path: {path: read_number(value, path, 0, 1)},
    "top_p": lambda value, path: {path: read_number(value, path, 0, 1)},
    "output_config": _read_output_config,
    "output_format": _read_format,
    "service_tier": _read_service_tier,
    "stop_sequences": _check_stop_sequences,
}
"""By optional field: the function that converts its value; it gets the name for errors."""


def read_stop_sequences(value: Any) -> list[str]:
    """Return the texts that end the output. The gateway applies them itself, for all upstreams.

    :raises GatewayError: 400, it is not an array of non-empty texts.
    """
    if value is None:
        return []
    values = enumerate(read_list(value, "stop_sequences"))
    texts = [read_text(text, f"stop_sequences[{index}]") for index, text in values]
    if not all(texts):
        raise invalid("stop_sequences", "A stop sequence must not be empty.")
    return texts


# ----------------------------------------------------------------------------------------------------------- reasoning
def read_reasoning(body: Mapping[str, Any]) -> Fields:
    """Convert ``thinking`` and ``output_config.effort``.

    :raises GatewayError: 400, one is malformed.
    """
    thinking = read_object(body.get("thinking") or {}, "thinking")
    output_config = read_object(body.get("output_config") or {}, "output_config")
    reasoning: Fields = {}
    if thinking:
        read_choice(thinking.get("type"), "thinking.type", THINKING_TYPES)
    if thinking.get("type") == "disabled":
        return {"effort": "none"}
    if thinking.get("type") == "enabled":
        budget = read_integer(thinking.get("budget_tokens"), "thinking.budget_tokens", 1024)
        reasoning["effort"] = next((effort for limit, effort in EFFORT_OF_BUDGET if budget <= limit), "high")
    if output_config.get("effort") is not None:
        reasoning["effort"] = read_choice(output_config["effort"], "output_config.effort", EFFORTS)
    if thinking and thinking.get("display") != "omitted":
        reasoning["summary"] = "auto"
    return reasoning


def shows_thinking(body: Mapping[str, Any]) -> bool:
    """Return whether the answer contains thinking blocks: only if the client has enabled thinking."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled")


def shows_thinking_text(body: Mapping[str, Any]) -> bool:
    """Return whether thinking blocks show the text."""
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("display") != "omitted"


# -------------------------------------------------------------------------------------------------------- conversation
SESSION_HEADER = "x-claude-code-session-id"
_SESSION_IN_USER = re.compile(r"_session_([\w-]+)$")


def read_conversation_hint(headers: Mapping[str, str], metadata: Any) -> str | None:
    """Return what identifies the conversation: the session of Claude Code, from its header or ``metadata.user_id``.

    ``user_id`` was ``user_..._account_..._session_...``, and is a JSON object since version 2. For other clients it
    names a user, whose conversations must not be mixed.
    """
    if headers.get(SESSION_HEADER):
        return headers[SESSION_HEADER]
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return None
    if match := _SESSION_IN_USER.search(user):
        return match[1]
    try:
        fields = jsontext.loads(user.encode("utf-8", "replace"))
    except ValueError:
        return None
    session = fields.get("session_id") if isinstance(fields, dict) else None
    return session if isinstance(session, str) and session else None
