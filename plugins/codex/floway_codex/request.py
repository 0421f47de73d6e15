"""The request for the backend: identity and profile projected onto headers and body. Pure functions."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from floway_codex.attempt import CodexAttempt
from floway_codex.identity import TURN_METADATA
from floway_codex.profile import Profile, Templates, constants, fill, render
from floway_core.protocol import jsontext

DEFAULT_INSTRUCTIONS = "You are a helpful assistant."
ENCRYPTED_REASONING = "reasoning.encrypted_content"

REJECTED = frozenset(
    "frequency_penalty logprobs max_completion_tokens max_output_tokens max_tokens max_tool_calls metadata "
    "presence_penalty prompt_cache_retention safety_identifier stream_options temperature top_logprobs top_p "
    "truncation user".split()
)
"""Fields that the backend refuses ("Unsupported parameter") and that only tune a request. Others it refuses, such as
``previous_response_id``, ``conversation`` or ``prompt``, mean something: they are passed on, and it says no itself."""

LONGEST_ITEM_ID = 64
ITEM_ID = re.compile(r"[A-Za-z0-9_-]+")
ID_PREFIXES = {
    "additional_tools": "at",
    "agent_message": "amsg",
    "apply_patch_call": "ap",
    "apply_patch_call_output": "apo",
    "code_interpreter_call": "ci",
    "compaction": "cmp",
    "compaction_summary": "cmp",
    "computer_call": "cc",
    "computer_call_output": "cco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "file_search_call": "fs",
    "function_call": "fc",
    "function_call_output": "fco",
    "image_generation_call": "ig",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "message": "msg",
    "reasoning": "rs",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "tool_search_call": "ts",
    "tool_search_output": "tso",
    "web_search_call": "ws",
}
"""Item type -> what its id begins with, before the underscore."""

IDS = ("installation_id", "session_id", "thread_id", "turn_id", "window_id")
"""Turn metadata that is always the identity's, whatever the client wrote."""
OPTIONAL_IDS = ("root_turn_id", "parent_turn_id", "parent_thread_id", "context_window_id")
"""The same, where the identity has them and the metadata has a place for them."""
FOLLOWING = ("window_number", "model", "reasoning_effort")
"""Turn metadata that repeats something else of the request."""


# ---------------------------------------------------------------------------------------------------------- headers
def headers(attempt: CodexAttempt, values: Mapping[str, Any]) -> dict[str, str]:
    """All headers but ``authorization``, in the profile's order."""
    return render(attempt.profile.responses_headers, values)


def authorized(profile: Profile, prepared: Mapping[str, str], token: str) -> dict[str, str]:
    """``prepared`` with the access token where the profile has it."""
    # Rendered with the token alone: just authorization, and constants that are in ``prepared`` too.
    return in_order(
        {**render(profile.responses_headers, {"access_token": token}), **prepared}, _names(profile.responses_headers)
    )


# -------------------------------------------------------------------------------------------------------------- body
def values(attempt: CodexAttempt, body: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's placeholders for this request; the turn metadata's text is one of them."""
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else None
    tier = body.get("service_tier")
    known = {
        **attempt.profile.known(),
        **(attempt.client.values() if attempt.client else {}),
        **attempt.identity.values(),
        "account_id": attempt.account.account_id,
        "lite": "true" if attempt.lite else None,
        "model": body.get("model"),
        "service_tier": tier if tier == "priority" else None,
        "reasoning_effort": effort if isinstance(effort, str) else None,
    }
    return {**known, "turn_metadata": jsontext.ascii_text(turn_metadata(attempt, known))}


def turn_metadata(attempt: CodexAttempt, known: Mapping[str, Any]) -> dict[str, Any]:
    """The turn metadata: the profile's, with the client's own keys in it and behind it.

    A Codex client's own metadata is complete, so it only has its ids set right.
    """
    theirs = {
        name: value
        for name, value in attempt.identity.turn_metadata.items()
        if name not in OPTIONAL_IDS or known.get(name) is not None  # else it was malformed
    }
    fixed = {name: known[name] for name in (*OPTIONAL_IDS, *FOLLOWING) if known.get(name) is not None}
    if attempt.client and theirs:
        ids = {name: known[name] for name in IDS}
        return {**theirs, **ids, **{name: value for name, value in fixed.items() if name in theirs}}
    merged = {**render(attempt.profile.turn_metadata, known), **theirs}
    merged |= {name: known[name] for name in IDS}
    merged |= {name: value for name, value in fixed.items() if name in merged}
    return in_order(merged, _names(attempt.profile.turn_metadata))


def client_metadata(attempt: CodexAttempt, known: Mapping[str, Any]) -> dict[str, str]:
    """The body's ``client_metadata``: texts only; the identity's keys cannot be contradicted."""
    templates = attempt.profile.client_metadata
    settled = set(_names(templates)) - constants(templates) | {TURN_METADATA}
    theirs = {key: value for key, value in attempt.identity.client_metadata.items() if key not in settled}
    return {**render(templates, known), **theirs}


def body(attempt: CodexAttempt, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the backend.

    :param given: the client's body, with the upstream's model name; it is not changed.
    """
    keys = attempt.profile.body_keys
    made = {
        key: value
        for key, value in given.items()
        # SDKs write out what they do not use, as null or false.
        if key in keys or (key not in REJECTED and value is not None and value is not False)
    }
    made |= {"store": False, "stream": True, "client_metadata": client_metadata(attempt, known)}
    if "input" in given:
        made["input"] = input_items(given["input"])
    made["include"] = included(given.get("include"))
    made.setdefault("prompt_cache_key", fill(attempt.profile.prompt_cache_key, known))
    if takes_default_instructions(attempt) and made.get("instructions") in (None, ""):
        made["instructions"] = DEFAULT_INSTRUCTIONS
    return in_order(made, keys)


def takes_default_instructions(attempt: CodexAttempt) -> bool:
    """Whether missing instructions are to be made up.

    Not where they are a developer message: for responses-lite models, and from clients of a version that has no such
    key (0.169).
    """
    return not attempt.lite and (attempt.client is None or "instructions" in attempt.profile.body_keys)


def included(include: Any) -> Any:
    """``include`` with the encrypted reasoning: nothing is stored upstream, so reasoning has to travel."""
    if include is None:
        return [ENCRYPTED_REASONING]
    if isinstance(include, list) and ENCRYPTED_REASONING not in include:
        return [*include, ENCRYPTED_REASONING]
    return include


def input_items(given: Any) -> Any:
    """``input`` as the list of items that the backend wants."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if isinstance(given, list):
        return [_item(item) if isinstance(item, dict) else item for item in given]
    return given


def _item(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message" and item.get("role") == "system":
        item = {**item, "role": "developer"}  # "System messages are not allowed"
    if "id" in item and kind != "item_reference" and not acceptable_id(kind, item["id"]):
        item = {key: value for key, value in item.items() if key != "id"}
    return item


def acceptable_id(kind: Any, value: Any) -> bool:
    """Whether the backend takes ``value`` as the id of an item of this type; an item without an id is always fine."""
    if not isinstance(value, str) or len(value) > LONGEST_ITEM_ID or not ITEM_ID.fullmatch(value):
        return False
    prefix = ID_PREFIXES.get(kind) if isinstance(kind, str) else None
    return prefix is None or value.startswith(f"{prefix}_")


def in_order(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``given`` with ``names`` first, in that order, and the rest behind."""
    return {**{name: given[name] for name in names if name in given}, **given}


def _names(templates: Templates) -> Iterable[str]:
    return (name for name, _ in templates)
