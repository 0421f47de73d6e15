"""Convert a chat request to a request of the Responses API."""

from collections.abc import Callable, Mapping
from typing import Any

from floway_chat.fields import read_object, read_string, refuse_value
from floway_chat.requests.messages import read_messages
from floway_chat.requests.schema import check_decisive_fields, check_fields, find_untranslatable_answer
from floway_core.dialect import DialectRequest, ReadRequest
from floway_core.errors import GatewayError

SAME_FIELDS = (
    "frequency_penalty",
    "metadata",
    "model",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "temperature",
    "top_logprobs",
    "top_p",
    "user",
)
"""Fields that both APIs have with the same meaning."""

CONVERSATION_IDS = ("conversation_id", "thread_id", "chat_id")
"""Names in ``metadata`` that identify the conversation, the preferred one first."""

LOGPROBS = "message.output_text.logprobs"
"""The value of ``include`` that asks for log probabilities."""

NO_PARAMETERS = {"type": "object", "properties": {}}
"""The schema of a function without parameters. The Responses API has no default for it."""


def read_request(request: DialectRequest, *, restores_reasoning: bool) -> ReadRequest:
    """Convert a request.

    If the request contains something unknown, which may be wrong or an extension of some servers, only upstreams with
    Chat Completions can serve it: they get the original. For all others, the client gets the error in
    ``untranslatable``.

    :param restores_reasoning: whether reasoning returns to the history that a client sends without it.
    :raises GatewayError: 400, the gateway itself cannot read the request; ``param`` is the path of the field.
    """
    body = request.body
    check_decisive_fields(body)
    stream = body.get("stream") is True
    try:
        converted = convert_body(body)
    except GatewayError as error:
        return ReadRequest({"model": body["model"], "input": []}, stream, untranslatable=error)
    return ReadRequest(
        converted,
        stream,
        conversation_hint=read_conversation_hint(converted.get("metadata")),
        restores_reasoning=restores_reasoning and converted.get("store") is not False,
        dropped_fields=[name for name in body if name not in TRANSLATED_FIELDS and body[name] is not None],
    )


def read_conversation_hint(metadata: Mapping[str, str] | None) -> str | None:
    """Return a value that identifies the conversation; None if the client sends none.

    ``prompt_cache_key`` and ``user`` do not: a client may use them for several conversations, which must not be mixed.

    :param metadata: its values are texts.
    """
    return next((value for name in CONVERSATION_IDS if (value := (metadata or {}).get(name))), None)


def convert_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the body of a chat request.

    Fields without a counterpart are dropped. ``stop`` is applied to the answer (``events.to_chat``).

    :raises GatewayError: 400, with the path of the field at fault as ``param``.
    """
    check_fields(body)
    if error := find_untranslatable_answer(body):
        raise error
    result = {name: body[name] for name in SAME_FIELDS if body.get(name) is not None}
    result["input"] = read_messages(body["messages"])
    for name, read_field in _READERS.items():
        if (value := body.get(name)) is not None:
            read_field(result, value)
    tools = [*_read_tools(body), *_read_functions(body), *_read_web_search(body)]
    if tools:
        result["tools"] = tools
    choice = body.get("tool_choice")
    if choice is None and body.get("function_call") is not None:
        choice = _read_function_choice(body["function_call"])
    if choice is not None:
        result["tool_choice"] = _read_tool_choice(choice)
    if body.get("functions"):
        result["parallel_tool_calls"] = False
    return result


# ------------------------------------------------------------------------------------------------------ single fields
def _read_max_tokens(result: dict[str, Any], value: Any) -> None:
    result["max_output_tokens"] = value


def _read_effort(result: dict[str, Any], value: Any) -> None:
    result.setdefault("reasoning", {})["effort"] = value


def _read_reasoning(result: dict[str, Any], value: Mapping[str, Any]) -> None:
    """Read the field ``reasoning`` of OpenRouter's clients; ``reasoning_effort`` takes precedence."""
    fields = {name: value[name] for name in ("effort", "summary") if value.get(name) is not None}
    if value.get("enabled") is False:
        fields["effort"] = "none"
    if fields:
        result["reasoning"] = {**fields, **result.get("reasoning", {})}


def _read_verbosity(result: dict[str, Any], value: Any) -> None:
    result.setdefault("text", {})["verbosity"] = value


def _read_logprobs(result: dict[str, Any], value: Any) -> None:
    if value:
        result["include"] = [LOGPROBS]


def _read_stream_options(result: dict[str, Any], value: Mapping[str, Any]) -> None:
    if value.get("include_obfuscation") is not None:
        result["stream_options"] = {"include_obfuscation": value["include_obfuscation"]}


def _read_format(result: dict[str, Any], value: Mapping[str, Any]) -> None:
    kind = value["type"]
    if kind not in _FORMATS:
        refuse_value("response_format.type", kind, _FORMATS)
    format: dict[str, Any] = {"type": kind}
    if kind == "json_schema":
        schema, path = read_object(value, "json_schema", "response_format"), "response_format.json_schema"
        name = read_string(schema, "name", path)
        format |= {"name": name, "schema": schema.get("schema") or {}}
        format |= {field: schema[field] for field in ("description", "strict") if schema.get(field) is not None}
    result.setdefault("text", {})["format"] = format


_FORMATS = ("json_object", "json_schema", "text")

_READERS: Mapping[str, Callable[[dict[str, Any], Any], None]] = {
    "logprobs": _read_logprobs,
    "max_completion_tokens": _read_max_tokens,
    "max_tokens": _read_max_tokens,
    "reasoning_effort": _read_effort,
    "reasoning": _read_reasoning,
    "response_format": _read_format,
    "stream_options": _read_stream_options,
    "verbosity": _read_verbosity,
}
"""By field: the function that adds it to the request of the Responses API."""


# ------------------------------------------------------------------------------------------------------------- tools
def _read_tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_read_tool(tool, f"tools[{index}]") for index, tool in enumerate(body.get("tools") or ())]


def _read_tool(tool: Mapping[str, Any], path: str) -> dict[str, Any]:
    kind = tool.get("type", "function")
    if kind == "function":
        return _read_function(read_object(tool, "function", path), f"{path}.function")
    if kind != "custom":
        refuse_value(f"{path}.type", kind, ("function", "custom"))
    custom, path = read_object(tool, "custom", path), f"{path}.custom"
    result: dict[str, Any] = {"type": "custom", "name": read_string(custom, "name", path)}
    if custom.get("description") is not None:
        result["description"] = read_string(custom, "description", path)
    if custom.get("format") is not None:
        result["format"] = _read_tool_format(read_object(custom, "format", path), f"{path}.format")
    return result


def _read_tool_format(format: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Read the format of a custom tool's input. The Responses API has no object ``grammar``."""
    if format.get("type") != "grammar":
        return {"type": read_string(format, "type", path)}
    grammar, path = read_object(format, "grammar", path), f"{path}.grammar"
    return {"type": "grammar", **{name: read_string(grammar, name, path) for name in ("syntax", "definition")}}


def _read_function(function: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Read the definition of a function. ``strict`` is off by default, unlike in the Responses API."""
    result = {
        "type": "function",
        "name": read_string(function, "name", path),
        "parameters": function.get("parameters") or NO_PARAMETERS,
        "strict": function.get("strict") or False,
    }
    if function.get("description") is not None:
        result["description"] = function["description"]
    return result


def _read_functions(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    functions = body.get("functions") or ()
    return [_read_function(function, f"functions[{index}]") for index, function in enumerate(functions)]


def _read_web_search(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    options = body.get("web_search_options")
    if options is None:
        return []
    tool: dict[str, Any] = {"type": "web_search"}
    if options.get("search_context_size") is not None:
        tool["search_context_size"] = options["search_context_size"]
    if location := (options.get("user_location") or {}).get("approximate"):
        tool["user_location"] = {"type": "approximate", **location}
    return [tool]


def _read_tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        if choice not in _CHOICES:
            refuse_value("tool_choice", choice, _CHOICES)
        return choice
    kind = choice.get("type")
    if kind == "allowed_tools":
        allowed, path = read_object(choice, kind, "tool_choice"), f"tool_choice.{kind}"
        tools = allowed.get("tools")
        references = [_read_reference(tool, f"{path}.tools[{index}]") for index, tool in enumerate(_as_list(tools))]
        return {"type": kind, "mode": read_string(allowed, "mode", path), "tools": references}
    return _read_reference(choice, "tool_choice")


def _read_reference(choice: Any, path: str) -> dict[str, Any]:
    """Read a reference to one tool."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("function", "custom"):
        refuse_value(f"{path}.type", kind, ("function", "custom"))
    return {"type": kind, "name": read_string(read_object(choice, kind, path), "name", f"{path}.{kind}")}


def _read_function_choice(choice: Any) -> Any:
    """Convert the deprecated ``function_call`` to ``tool_choice``."""
    return choice if isinstance(choice, str) else {"type": "function", "function": choice}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_CHOICES = ("none", "auto", "required")

TRANSLATED_FIELDS = frozenset(
    [
        *SAME_FIELDS,
        *_READERS,
        *("messages", "n", "modalities", "stop"),
        *("function_call", "functions", "tool_choice", "tools", "web_search_options"),
    ]
)
"""Fields that are translated. All others are reported as ignored."""
