"""The fields of a chat request, as a table of rules."""

from collections.abc import Container, Mapping
from typing import Any

from floway_chat.fields import refuse_missing, refuse_unknown
from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import (
    BOOLEAN,
    OBJECT,
    STRING,
    Rule,
    find_field_fault,
    integer,
    list_of,
    number,
    object_of,
)

_NAMED_FUNCTION = object_of(name=STRING, description=STRING, parameters=OBJECT, strict=BOOLEAN)

FIELDS: Mapping[str, Rule] = {
    "audio": OBJECT,
    "frequency_penalty": number(-2, 2),
    "function_call": Rule((str, dict), "a string or an object", fields={"name": STRING}),
    "functions": list_of(_NAMED_FUNCTION, "an array of objects"),
    "logit_bias": OBJECT,
    "logprobs": BOOLEAN,
    "max_completion_tokens": integer(1),
    "max_tokens": integer(1),
    "messages": list_of(OBJECT, "an array of objects"),
    "metadata": Rule((dict,), "an object", values=STRING),
    "modalities": list_of(STRING, "an array of strings"),
    "model": STRING,
    "n": integer(1),
    "parallel_tool_calls": BOOLEAN,
    "prediction": OBJECT,
    "presence_penalty": number(-2, 2),
    "prompt_cache_key": STRING,
    "prompt_cache_retention": STRING,
    "reasoning": object_of(effort=STRING, summary=STRING),
    "reasoning_effort": STRING,
    "response_format": Rule(
        (dict,),
        "an object",
        fields={
            "type": STRING,
            "json_schema": object_of(name=STRING, description=STRING, schema=OBJECT, strict=BOOLEAN),
        },
        required=("type",),
    ),
    "safety_identifier": STRING,
    "seed": Rule((int,), "an integer"),
    "service_tier": STRING,
    "stop": Rule((str, list), "a string or an array of strings", elements=STRING, max_elements=4),
    "store": BOOLEAN,
    "stream": BOOLEAN,
    "stream_options": object_of(include_usage=BOOLEAN, include_obfuscation=BOOLEAN),
    "temperature": number(0, 2),
    "tool_choice": Rule((str, dict), "a string or an object", fields={"type": STRING}),
    "tools": list_of(object_of(type=STRING, function=_NAMED_FUNCTION, custom=OBJECT), "an array of objects"),
    "top_logprobs": integer(0, 20),
    "top_p": number(0, 1),
    "user": STRING,
    "verbosity": STRING,
    "web_search_options": object_of(search_context_size=STRING, user_location=object_of(approximate=OBJECT)),
}
"""Rules by field. Fields that are not listed pass: servers of this API have many of their own."""

DECISIVE_FIELDS = {name: FIELDS[name] for name in ("messages", "model", "stream", "stream_options")}
"""The fields that the gateway's decisions depend on: the upstream, the form of the answer, and whether it has usage."""

_STREAM_OPTIONS = ("include_usage", "include_obfuscation")


def check_decisive_fields(body: Mapping[str, Any]) -> None:
    """Check the fields that the gateway and every server read in the same way.

    :raises GatewayError: 400, with the path of the field.
    """
    for name in ("model", "messages"):
        if body.get(name) in (None, ""):
            refuse_missing(name)
    _check_spelling(body, FIELDS, "")
    _check_spelling(body.get("stream_options"), _STREAM_OPTIONS, "stream_options.")
    _check(body, DECISIVE_FIELDS)
    if not body["messages"]:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
        raise GatewayError(400, f"{message[:-1]} instead.", code="empty_array", param="messages")


def check_fields(body: Mapping[str, Any]) -> None:
    """Check the types and ranges of all fields, as OpenAI documents them. Other servers may accept more.

    :raises GatewayError: 400, with the path of the field.
    """
    _check(body, FIELDS)
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise GatewayError(400, message, code="invalid_parameter_combination", param="max_tokens")
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        message = "'top_logprobs' requires 'logprobs' to be true."
        raise GatewayError(400, message, code="invalid_parameter_combination", param="top_logprobs")


def _check(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    if fault := find_field_fault(body, rules):
        raise GatewayError(400, fault.message, code=fault.code, param=fault.param)


def _check_spelling(fields: Any, field_names: Container[str], prefix: str) -> None:
    """Refuse fields that differ from known fields only in upper and lower case.

    Servers written in Go read both. A client must not request another model with ``Model``, and the gateway must know
    whether the answer has usage.

    :raises GatewayError: 400.
    """
    for name in fields if isinstance(fields, dict) else ():
        if name not in field_names and name.casefold() in field_names:
            refuse_unknown(f"{prefix}{name}")


def find_untranslatable_answer(body: Mapping[str, Any]) -> GatewayError | None:
    """Return the error for an answer that the Responses API cannot express; None if it can.

    :param body: of a request whose fields need not be valid.
    """
    if body.get("n") not in (None, 1):
        return GatewayError(400, "This model supports 'n': 1 only.", code="unsupported_value", param="n")
    if body.get("modalities") not in (None, [], ["text"]):
        message = "This model supports text output only."
        return GatewayError(400, message, code="unsupported_value", param="modalities")
    return None
