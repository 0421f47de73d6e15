"""The checks on a request's JSON body, with the backend's texts."""

import re
from collections.abc import Iterator
from typing import Any

from .fingerprint import cli_version
from .responses import RequestRefused, detail_refusal, error_refusal
from .values import check_values

JSON = Any

# Every top-level key that the CLI was seen to send; all others are "Unsupported parameter".
ALLOWED = frozenset(
    {
        "model",
        "instructions",
        "input",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "store",
        "stream",
        "include",
        "service_tier",
        "prompt_cache_key",
        "text",
        "client_metadata",
    }
)
ALLOWED_COMPACT = frozenset(
    {
        "model",
        "instructions",
        "input",
        "tools",
        "parallel_tool_calls",
        "reasoning",
        "service_tier",
        "prompt_cache_key",
        "text",
    }
)
ID_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "web_search_call": "ws",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "file_search_call": "fs",
    "computer_call": "cc",
    "computer_call_output": "cco",
    "tool_search_call": "ts",
    "tool_search_output": "tso",
    "compaction": "cmp",
    "compaction_summary": "cmp",
    "image_generation_call": "ig",
    "code_interpreter_call": "ci",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "apply_patch_call": "ap",
    "apply_patch_call_output": "apo",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpar",
    "mcp_approval_response": "mcpa",
    "additional_tools": "at",
    "agent_message": "amsg",
}
MAX_ID = 64
# From this version on the CLI sends no instructions: they lead the input as a developer message.
WITHOUT_INSTRUCTIONS = (0, 169, 0)


def check_responses(body: JSON, models: dict[str, JSON], agent: str, lite: bool) -> None:
    """Refuse what POST /codex/responses refuses.

    models: catalogue entries by slug; agent: the user-agent; lite: the request has the responses-lite header.
    """
    if not isinstance(body, dict):
        raise detail_refusal("The body must be a JSON object")
    if body.get("store") is not False:
        raise detail_refusal("Store must be set to false")
    if body.get("stream") is not True:
        raise detail_refusal("Stream must be set to true")
    check_common(body, models, agent, ALLOWED)
    check_lite(body, models[body["model"]], lite)


def check_compact(body: JSON, models: dict[str, JSON], agent: str) -> None:
    """Refuse what POST /codex/responses/compact refuses."""
    if not isinstance(body, dict):
        raise detail_refusal("The body must be a JSON object")
    check_common(body, models, agent, ALLOWED_COMPACT)


def check_common(body: JSON, models: dict[str, JSON], agent: str, allowed: frozenset[str]) -> None:
    """The checks that both endpoints share."""
    entry = models.get(body["model"]) if isinstance(body.get("model"), str) else None
    lite_model = bool(entry and entry["use_responses_lite"])
    if not lite_model and not has_instructions(body, agent):
        raise detail_refusal("Instructions are required")
    if not isinstance(body.get("input"), list) or not all(isinstance(item, dict) for item in body["input"]):
        raise detail_refusal("Input must be a list")
    if any(item.get("role") == "system" for item in body["input"]):
        raise detail_refusal("System messages are not allowed")
    for name in body:
        if name not in allowed:
            raise detail_refusal(f"Unsupported parameter: {name}")
    if entry is None:
        raise detail_refusal(
            f"The '{body.get('model')}' model is not supported when using Codex with a ChatGPT account."
        )
    for name in ("reasoning", "text"):
        if not isinstance(body.get(name), dict | None):
            raise wrong_type(name, "an object")
    for problem in item_problems(body["input"]):
        raise problem
    check_values(body, entry)


def has_instructions(body: JSON, agent: str) -> bool:
    """Non-empty instructions, or none at all from a recent CLI, which has them in the input."""
    if isinstance(body.get("instructions"), str) and body["instructions"]:
        return True
    return "instructions" not in body and (cli_version(agent) or (0, 0, 0)) >= WITHOUT_INSTRUCTIONS


def item_problems(items: list[JSON]) -> Iterator[RequestRefused]:
    """Bad ids, and references to what was never stored."""
    for index, item in enumerate(items):
        kind = item.get("type", "message" if "role" in item else None)
        for name in ("id", "call_id"):
            if item.get(name) is not None and kind != "item_reference":
                yield from id_problems(f"input[{index}].{name}", item[name])
        if not isinstance(kind, str | None):
            yield wrong_type(f"input[{index}].type", "a string")
        prefix = ID_PREFIXES.get(kind)
        if prefix and item.get("id") is not None and item["id"].partition("_")[0] != prefix:
            yield error_refusal(
                400,
                "invalid_value",
                f"Invalid 'input[{index}].id': '{item['id']}'. Expected an ID that begins with '{prefix}'.",
                param=f"input[{index}].id",
            )
        bare_reasoning = kind == "reasoning" and item.get("id") is not None and not item.get("encrypted_content")
        if kind == "item_reference" or bare_reasoning:
            yield error_refusal(
                404,
                None,
                f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` "
                "is set to false. Try again with `store` set to true, or remove this item from your input.",
                param="input",
            )


def wrong_type(where: str, expected: str) -> RequestRefused:
    """A value of another type than expected."""
    return error_refusal(400, "invalid_type", f"Invalid type for '{where}': expected {expected}.", param=where)


def id_problems(where: str, value: JSON) -> Iterator[RequestRefused]:
    """What is wrong with an id whatever its item's type."""
    if not isinstance(value, str):
        yield wrong_type(where, "a string")
    elif len(value) > MAX_ID:
        yield error_refusal(
            400,
            "string_above_max_length",
            f"Invalid '{where}': string too long. Expected a string with "
            f"maximum length {MAX_ID}, but got a string with length {len(value)} instead.",
            param=where,
        )
    elif not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        yield error_refusal(
            400,
            "invalid_value",
            f"Invalid '{where}': '{value}'. Expected an ID that contains letters, "
            "numbers, underscores, or dashes, but this value contained additional characters.",
            param=where,
        )


def check_lite(body: JSON, entry: JSON, lite: bool) -> None:
    """Models with `use_responses_lite` have their own header and body form; the texts are the simulator's own."""
    if lite != bool(entry["use_responses_lite"]):
        verb = "requires" if not lite else "does not take"
        raise detail_refusal(f"The '{entry['slug']}' model {verb} x-openai-internal-codex-responses-lite")
    if not lite:
        return
    if body.get("tools"):
        raise detail_refusal("Responses-lite takes tools as an additional_tools input item")
    if body.get("parallel_tool_calls") is not False:
        raise detail_refusal("Responses-lite needs parallel_tool_calls set to false")
