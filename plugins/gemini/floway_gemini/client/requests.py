"""Convert a request of the generateContent API to one of the Responses API."""

from typing import Any

from floway_core.dialect import DialectRequest, ReadRequest
from floway_core.errors import GatewayError
from floway_gemini.client.contents import check_contents, read_contents, read_system_instruction
from floway_gemini.client.generation import ONLY_JSON, read_generation_config
from floway_gemini.client.tools import SEARCH, read_tool_choice, read_tools
from floway_gemini.client.untranslatable import Untranslatable
from floway_gemini.fields import Message, find, invalid

Fields = dict[str, Any]

INCLUDE = "reasoning.encrypted_content"
INCLUDE_SOURCES = "web_search_call.action.sources"
UNTRANSLATABLE_FIELDS = ("cachedContent",)
IGNORED_FIELDS = ("safetySettings", "labels", "store")
"""Fields without a counterpart that a request does not depend on."""
MAX_MODEL_LENGTH = 1000
"""Characters. No model has such a long name, and errors quote it."""


def request_body(request: DialectRequest) -> Fields:
    """Return the request to generate: the body, or a field of it in a request that counts tokens."""
    inner = find(request.body, "generateContentRequest")
    return inner if isinstance(inner, dict) and request.path.endswith(":countTokens") else request.body


def read_request(request: DialectRequest) -> ReadRequest:
    """Convert a request.

    If the request contains something unknown, which may be wrong or newer than this package, only upstreams with this
    API can serve it: they get the original. For all others, the client gets the error in ``untranslatable``.

    :raises GatewayError: 400, the contents are malformed; ``param`` names the field.
    """
    message = Message(request_body(request))
    check_contents(message)
    try:
        converted, untranslatable = convert_body(message), None
    except GatewayError as error:
        converted, untranslatable = {"input": []}, error
    return ReadRequest(
        body={"model": request.path_args["model"][:MAX_MODEL_LENGTH], **converted},
        restores_reasoning=True,
        required_fields=_required_tools(converted.get("tools") or []),
        untranslatable=untranslatable,
    )


def convert_body(request: Message) -> Fields:
    """Convert the fields of a request.

    :raises Untranslatable: it holds what only an upstream with this API understands.
    :raises GatewayError: 400, something is malformed.
    """
    for name in UNTRANSLATABLE_FIELDS:
        if request.get(name):
            raise Untranslatable(request.path(name), f"The field {name!r}")
    converted: Fields = {"input": read_contents(request), "include": [INCLUDE]}
    if not converted["input"]:
        raise invalid(request.path("contents"), "contents must not be empty.")
    instructions = read_system_instruction(request)
    tools = read_tools(request)
    if tools:
        converted["tools"] = tools
    if any(tool["type"] == SEARCH for tool in tools):
        converted["include"].append(INCLUDE_SOURCES)
    converted |= read_tool_choice(request, tools)
    converted |= read_generation_config(request)
    if converted.get("text", {}).get("format", {}).get("type") == "json_object":
        instructions = "\n\n".join(filter(None, (instructions, ONLY_JSON)))
    if instructions:
        converted["instructions"] = instructions
    return converted


def _required_tools(tools: list[Fields]) -> dict[str, str]:
    """Return the hosted tools that the upstream must have.

    :param tools: the converted ones.
    """
    return {f"tools[{at}]": "The tool 'googleSearch'" for at, tool in enumerate(tools) if tool["type"] == SEARCH}
