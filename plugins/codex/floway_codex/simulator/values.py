"""The values in a request's body that the backend refuses, with the known error texts.

The tables come from refusals that users of the backend have published, and from recordings of the CLI. A value that is
in neither passes. An error text that is unknown is the simulator's own.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any

from .responses import RequestRefused, detail_refusal, error_refusal

JSON = Any

SERVICE_TIERS = ("priority",)
TOOLS_REFUSED = ("code_interpreter", "computer", "computer_use_preview", "file_search", "mcp", "web_search_preview")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Values by the path of the field.
ENUMS: Mapping[tuple[str, ...], Sequence[str]] = {
    ("reasoning", "effort"): EFFORTS,
    ("reasoning", "summary"): ("auto", "concise", "detailed"),
    ("text", "verbosity"): ("low", "medium", "high"),
    ("text", "format", "type"): ("text", "json_schema", "json_object"),
}
INCLUDES = (
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
CHOICES = ("none", "auto", "required")
# A tool_choice by type finds functions and freeform tools only.
CHOOSABLE = ("function", "custom", "allowed_tools")

ROLES = ("assistant", "system", "developer", "user")
PARTS = {"assistant": ("output_text", "refusal")}
PARTS_OF_OTHERS = ("input_text", "input_image", "input_file")
PARTS_REFUSED = ("input_audio", "input_video")
STATUSES = ("in_progress", "completed", "incomplete")
SEARCHES = ("search", "open_page", "find_in_page")
# Nulls that the CLI sends, by the item's type.
NULLS = {("reasoning", "content")}
MAX_CACHE_KEY_LENGTH = 64
NAME = re.compile(r"[a-zA-Z0-9_-]+")
IMAGE = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,(.*)", re.DOTALL)
EXAMPLE = "a base64-encoded data URL with an image MIME type (e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU=')"


def check_values(body: JSON, entry: JSON) -> None:
    """Refuse the first value in `body` that the backend refuses; entry: the model's in the catalogue."""
    for problem in chain(field_problems(body, entry), tool_problems(body), history_problems(body["input"])):
        raise problem


# ---------------------------------------------------------------------------------------------------------- fields
def field_problems(body: JSON, entry: JSON) -> Iterator[RequestRefused]:
    """Wrong values in the top-level fields."""
    tier = body.get("service_tier")
    if "service_tier" in body and tier not in SERVICE_TIERS:
        yield detail_refusal(f"Unsupported service_tier: {tier}")
    for path, values in ENUMS.items():
        value = body
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and value not in values:
            yield invalid(value, ".".join(path), values)
    reasoning = body.get("reasoning") or {}
    levels = [level["effort"] for level in entry.get("supported_reasoning_levels", ())]
    if reasoning.get("effort") is not None and levels and reasoning["effort"] not in levels:
        yield unsupported(reasoning["effort"], "reasoning.effort", entry["slug"], levels)
    if (body.get("text") or {}).get("verbosity") and entry.get("support_verbosity") is False:
        yield unsupported(body["text"]["verbosity"], "text.verbosity", entry["slug"], ["medium"])
    for index, one in enumerate(list_in(body, "include")):
        if one not in INCLUDES:
            yield invalid(one, f"include[{index}]", INCLUDES)
    key = body.get("prompt_cache_key")
    if isinstance(key, str) and len(key) > MAX_CACHE_KEY_LENGTH:
        yield error_refusal(
            400,
            "string_above_max_length",
            "Invalid 'prompt_cache_key': string too long. Expected a string with maximum length "
            f"{MAX_CACHE_KEY_LENGTH}, but got a string with length {len(key)} instead.",
            param="prompt_cache_key",
        )


def tool_problems(body: JSON) -> Iterator[RequestRefused]:
    """Tools that the backend does not have, and a choice that it does not find."""
    choice = body.get("tool_choice")
    for index, tool in enumerate(list_in(body, "tools")):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or kind.startswith(TOOLS_REFUSED):
            yield detail_refusal(f"Unsupported tool type: {kind}")
        yield from null_problems(f"tools[{index}]", tool)
        if kind in ("function", "custom") and "name" not in tool:
            where = f"tools[{index}].name"
            yield error_refusal(
                400, "missing_required_parameter", f"Missing required parameter: '{where}'.", param=where
            )
        yield from name_problems(f"tools[{index}].name", tool.get("name"))
    if isinstance(choice, str) and choice not in CHOICES:
        yield invalid(choice, "tool_choice", CHOICES)
    if isinstance(choice, dict) and choice.get("type") not in CHOOSABLE:
        text = f"Tool choice '{choice.get('type')}' not found in 'tools' parameter."
        yield error_refusal(400, None, text, param="tool_choice")


# ----------------------------------------------------------------------------------------------------------- items
def history_problems(items: list[JSON]) -> Iterator[RequestRefused]:
    """Wrong values in the items, and items that do not belong together."""
    for index, item in enumerate(items):
        kind = item.get("type")
        yield from null_problems(f"input[{index}]", item, {name for one, name in NULLS if one == kind})
        if "role" in item and kind in (None, "message"):
            yield from message_problems(f"input[{index}]", item)
        if kind == "reasoning" and (length := len(list_in(item, "content"))):
            yield error_refusal(
                400,
                "array_above_max_length",
                f"Invalid 'input[{index}].content': array too long. Expected an array with maximum length 0, but got "
                f"an array with length {length} instead.",
                param=f"input[{index}].content",
            )
        yield from part_problems(f"input[{index}].output", list_in(item, "output"), PARTS_OF_OTHERS)
        if isinstance(item.get("action"), dict) and kind == "web_search_call":
            yield from null_problems(f"input[{index}].action", item["action"])
            if item["action"].get("type") not in SEARCHES:
                yield invalid(item["action"].get("type"), f"input[{index}].action.type", SEARCHES)
        if kind in ("function_call", "custom_tool_call"):
            yield from name_problems(f"input[{index}].name", item.get("name"))
    yield from doubled_ids(items)
    yield from unpaired_calls(items)


def message_problems(where: str, item: JSON) -> Iterator[RequestRefused]:
    """A role, a status or a content that no message has. The CLI writes out type and parts."""
    if item["role"] not in ROLES:
        yield invalid(item["role"], f"{where}.role", ROLES)
    if "type" not in item:
        yield error_refusal(
            400, "missing_required_parameter", f"Missing required parameter: '{where}.type'.", param=f"{where}.type"
        )
    if isinstance(item.get("content"), str):
        text = f"Invalid type for '{where}.content': expected an array of content parts, but got a string instead."
        yield error_refusal(400, "invalid_type", text, param=f"{where}.content")
    if "status" in item and item["status"] not in STATUSES:
        yield invalid(item["status"], f"{where}.status", STATUSES)
    yield from part_problems(f"{where}.content", list_in(item, "content"), PARTS.get(item["role"], PARTS_OF_OTHERS))


def part_problems(where: str, parts: list[JSON], types: Sequence[str]) -> Iterator[RequestRefused]:
    """Parts of a content or an output with a type that is not valid there."""
    for index, part in enumerate(parts):
        at = f"{where}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in PARTS_REFUSED:
            yield detail_refusal("Unsupported content type")
        elif kind not in types and kind != "encrypted_content":
            yield invalid(kind, at, types)
        else:
            yield from null_problems(at, part)
            if "image_url" in part:
                yield from image_problems(f"{at}.image_url", part["image_url"])


def image_problems(where: str, url: JSON) -> Iterator[RequestRefused]:
    """What is wrong with the URL of an image, in the backend's words."""
    if not isinstance(url, str):
        text = f"Invalid type for '{where}': expected an image URL, but got another type instead."
        yield error_refusal(400, "invalid_type", text, param=where)
    elif url.startswith("data:"):
        if wrong := wrong_image(url):
            yield error_refusal(
                400, "invalid_value", f"Invalid '{where}'. Expected {EXAMPLE}, but got {wrong}.", param=where
            )
    elif not url.startswith(("https://", "http://")):
        text = f"Invalid '{where}'. Expected a valid URL, but got a value with an invalid format."
        yield error_refusal(400, "invalid_value", text, param=where)


def wrong_image(url: str) -> str | None:
    """What is wrong with a data URL, or None."""
    match = IMAGE.fullmatch(url)
    if not match:
        return f"unsupported MIME type '{url.removeprefix('data:').partition(';')[0]}'"
    if not match[1]:
        return "empty base64-encoded bytes"
    try:
        base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return "an invalid base64-encoded value"
    return None


def doubled_ids(items: list[JSON]) -> Iterator[RequestRefused]:
    """An id that an earlier item has."""
    seen = set()
    for item in items:
        own = item.get("id")
        if own is not None and own in seen:
            text = f"Duplicate item found with id {own}. Remove duplicate items from your input and try again."
            yield error_refusal(400, None, text, param="input")
        seen.add(own)


def unpaired_calls(items: list[JSON]) -> Iterator[RequestRefused]:
    """Outputs without a call before them, and calls without an output behind them."""
    open_calls: dict[str, str] = {}
    called = set()
    for item in items:
        own, kind = item.get("call_id"), str(item.get("type"))
        if own is None:
            continue
        if kind.endswith("_output"):
            if own not in called:
                name = "custom tool call" if kind.startswith("custom") else "function call"
                text = f"No tool call found for {name} output with call_id {own}."
                yield error_refusal(400, None, text, param="input")
            open_calls.pop(own, None)
        elif kind in ("function_call", "custom_tool_call"):
            called.add(own)
            open_calls[own] = "function call" if kind == "function_call" else "custom tool call"
    if items and items[-1].get("type") == "compaction_trigger":  # the checks of calls in a compaction are unknown
        return
    for own, name in open_calls.items():
        yield error_refusal(400, None, f"No tool output found for {name} {own}.", param="input")


def list_in(container: JSON, name: str) -> list[JSON]:
    """The list with this name, or an empty one if there is none."""
    return container[name] if isinstance(container.get(name), list) else []


def null_problems(where: str, container: JSON, allowed: Set[str] = frozenset()) -> Iterator[RequestRefused]:
    """Fields that are null and not left out."""
    for name, value in container.items() if isinstance(container, dict) else ():
        if value is None and name not in allowed:
            text = f"Invalid type for '{where}.{name}': expected a value, but got null instead."
            yield error_refusal(400, "invalid_type", text, param=f"{where}.{name}")


def name_problems(where: str, name: JSON) -> Iterator[RequestRefused]:
    """A name that is not valid for a function."""
    if name == "":
        text = f"Invalid '{where}': empty string. Expected a string with minimum length 1, but got an empty string "
        yield error_refusal(400, "empty_string", f"{text}instead.", param=where)
    elif isinstance(name, str) and not NAME.fullmatch(name):
        text = f"Invalid '{where}': string does not match pattern. Expected a string that matches the pattern "
        yield error_refusal(400, "invalid_value", f"{text}'^[a-zA-Z0-9_-]+$'.", param=where)


# ----------------------------------------------------------------------------------------------------------- texts
def invalid(value: JSON, where: str, values: Sequence[str]) -> RequestRefused:
    """A value that the API does not have."""
    return error_refusal(
        400, "invalid_value", f"Invalid value: '{value}'. Supported values are: {join_values(values)}.", param=where
    )


def unsupported(value: JSON, where: str, model: str, values: Sequence[str]) -> RequestRefused:
    """A value that this model does not have."""
    text = f"Unsupported value: '{value}' is not supported with the '{model}' model. Supported values are: "
    return error_refusal(400, "unsupported_value", f"{text}{join_values(values)}.", param=where)


def join_values(values: Sequence[str]) -> str:
    """Join values as the backend does: ``'a', 'b', and 'c'``."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"
