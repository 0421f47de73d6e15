"""The request for the backend: identity and profile projected onto headers and body. Pure functions."""

from collections.abc import Iterable, Mapping
from typing import Any

from floway_codex.attempt import CodexAttempt
from floway_codex.identity.claims import TURN_METADATA
from floway_codex.wire.encoding import IDENTITY
from floway_codex.wire.items import as_lite, input_items, offered
from floway_codex.wire.profile import Profile
from floway_codex.wire.values import included, of_any_client, of_other_client
from floway_core.protocol import jsontext
from floway_core.protocol.items import TRIGGER

DEFAULT_INSTRUCTIONS = "You are a helpful assistant."

REJECTED = frozenset(
    "frequency_penalty logprobs max_completion_tokens max_output_tokens max_tokens max_tool_calls metadata "
    "presence_penalty prompt_cache_options prompt_cache_retention safety_identifier stream_options temperature "
    "top_logprobs top_p truncation user".split()
)
"""Fields that the backend refuses ("Unsupported parameter") and that only tune a request. Others it refuses, such as
``previous_response_id``, ``conversation`` or ``prompt``, mean something: they are passed on, and it says no itself."""

IDS = ("installation_id", "session_id", "thread_id", "turn_id", "window_id")
"""Turn metadata that is always the identity's, whatever the client wrote."""
OPTIONAL_IDS = ("root_turn_id", "parent_turn_id", "parent_thread_id", "context_window_id")
"""The same, where the identity has them and the metadata has a place for them."""
FOLLOWING = ("window_number", "model", "reasoning_effort")
"""Turn metadata that repeats something else of the request."""
TYPES = {"compaction": dict, "subagent_kind": str, "workspaces": dict}
"""Turn metadata that has no default to tell its type from."""

COMPACTION = {
    "trigger": "manual",
    "reason": "user_requested",
    "implementation": "responses_compaction_v2",
    "phase": "standalone_turn",
    "strategy": "memento",
}
"""What the CLI says of a compaction that its user asked for, outside of any other turn."""


# ---------------------------------------------------------------------------------------------------------- headers
def headers(attempt: CodexAttempt, values: Mapping[str, Any]) -> dict[str, str]:
    """All headers but ``authorization``, in the profile's order."""
    return attempt.profile.responses_headers.render(values)


def authorized(profile: Profile, prepared: Mapping[str, str], token: str) -> dict[str, str]:
    """``prepared`` with the access token where the profile has it."""
    name, template = profile.authorization
    return in_order({name: template.fill({"access_token": token}), **prepared}, profile.responses_headers.names)


# -------------------------------------------------------------------------------------------------------------- body
def accepted(attempt: CodexAttempt, given: Mapping[str, Any]) -> dict[str, Any]:
    """The client's body with values that the backend takes, before anything is derived from it. A codex CLI speaks of
    models as its own version does, so little is changed in its requests.

    :param given: the client's body, with the upstream's model name; it is not changed.
    """
    made = of_any_client(given)
    return made if attempt.client else of_other_client(made, attempt.model)


def values(attempt: CodexAttempt, body: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's placeholders for this request; the turn metadata's text is one of them."""
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    tier = body.get("service_tier")
    compacts = asks_for_compaction(body)
    known = {
        **attempt.profile.known,
        **(attempt.client.values() if attempt.client else {}),
        **attempt.identity.values(),
        "account_id": attempt.account.account_id,
        "turn_state": attempt.turn_state,
        "content_encoding": attempt.encoding if attempt.encoding != IDENTITY else None,
        "lite": "true" if attempt.lite else None,
        "model": body.get("model"),
        "service_tier": tier if tier == "priority" else None,
        "reasoning_effort": effort if isinstance(effort, str) else None,
        "request_kind": "compaction" if compacts else "turn",
        "compaction": COMPACTION if compacts else None,
    }
    if not compacts:  # what the CLI leaves out in a compaction
        known |= {"turn_trigger": "user", "turn_model": known["model"], "turn_effort": known["reasoning_effort"]}
    known["turn_metadata"] = jsontext.ascii_text(turn_metadata(attempt, known))
    return known


def asks_for_compaction(body: Mapping[str, Any]) -> bool:
    """Whether the input ends with a compaction trigger."""
    items = body.get("input")
    last = items[-1] if isinstance(items, list) and items else None
    return isinstance(last, dict) and last.get("type") == TRIGGER


def turn_metadata(attempt: CodexAttempt, known: Mapping[str, Any]) -> dict[str, Any]:
    """The turn metadata: the profile's, with the client's own keys in it and behind it.

    That of a Codex client is complete, so it only has its ids set right.
    """
    made, said = attempt.profile.turn_metadata.render(known), attempt.identity.turn_metadata
    if not said:
        return made
    theirs = {
        name: value
        for name, value in said.items()
        if _has_type(value, type(made[name]) if name in made else TYPES.get(name))
        and (name not in OPTIONAL_IDS or known.get(name) is not None)  # else it was malformed
    }
    if known["compaction"]:  # the trigger is what it is, whatever the client calls it
        fixed_form = {"implementation": COMPACTION["implementation"]}
        theirs["compaction"] = {**COMPACTION, **theirs.get("compaction", {}), **fixed_form}
        theirs["request_kind"] = known["request_kind"]
    fixed = {name: known[name] for name in (*OPTIONAL_IDS, *FOLLOWING) if known.get(name) is not None}
    if attempt.client and "request_kind" in said:
        ids = {name: known[name] for name in IDS}
        return {**theirs, **ids, **{name: value for name, value in fixed.items() if name in theirs}}
    merged = {**made, **theirs}
    merged |= {name: known[name] for name in IDS}
    merged |= {name: value for name, value in fixed.items() if name in merged}
    return in_order(merged, attempt.profile.turn_metadata.names)


def _has_type(value: Any, expected: type | None) -> bool:
    """Exactly: to Python, true is a number."""
    return expected is None or type(value) is expected


def client_metadata(attempt: CodexAttempt, known: Mapping[str, Any]) -> dict[str, str]:
    """The body's ``client_metadata``: texts only; the identity's keys cannot be contradicted."""
    made = attempt.profile.client_metadata
    theirs = {
        key: value
        for key, value in attempt.identity.client_metadata.items()
        if key not in made.varying and key != TURN_METADATA
    }
    return {**made.render(known), **theirs}


def body(attempt: CodexAttempt, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The body for the backend.

    :param given: the client's body, as ``accepted`` makes it; it is not changed.
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
    made.setdefault("prompt_cache_key", attempt.profile.prompt_cache_key.fill(known))
    if takes_default_instructions(attempt) and made.get("instructions") in (None, ""):
        made["instructions"] = DEFAULT_INSTRUCTIONS
    lite_form = wants_lite_form(attempt)
    if lite_form or not attempt.client:
        made |= offered(made, attempt.lite)
    if lite_form and isinstance(made.get("input"), list):
        moved = as_lite(made, made["input"])
        made = {key: value for key, value in {**made, **moved}.items() if value is not None or key not in moved}
    return in_order(made, keys)


def takes_default_instructions(attempt: CodexAttempt) -> bool:
    """Whether missing instructions are to be made up.

    Not where they are a developer message: for responses-lite models, and from clients of a version that has no such
    key (0.169).
    """
    return not attempt.lite and (attempt.client is None or "instructions" in attempt.profile.body_keys)


def wants_lite_form(attempt: CodexAttempt) -> bool:
    """Whether the request is to be put into the form of responses-lite. A client that sends its header has done that
    itself, in the way of its version."""
    return attempt.lite and not (attempt.client and attempt.client.lite)


def in_order(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``given`` with ``names`` first, in that order, and the rest behind."""
    return {**{name: given[name] for name in names if name in given}, **given}
