"""The headers and the body for the backend, from identity and profile. Pure functions."""

from collections.abc import Iterable, Mapping
from typing import Any

from floway_codex.attempt import CodexAttempt
from floway_codex.identity.claims import TURN_METADATA
from floway_codex.wire.encoding import IDENTITY
from floway_codex.wire.items import convert_input, convert_tools, to_lite_form
from floway_codex.wire.profile import Profile
from floway_codex.wire.values import adapt_values, add_encrypted_reasoning, replace_service_tier
from floway_core.protocol import jsontext
from floway_core.protocol.items import TRIGGER

DEFAULT_INSTRUCTIONS = "You are a helpful assistant."

UNSUPPORTED_FIELDS = frozenset(
    "frequency_penalty logprobs max_completion_tokens max_output_tokens max_tokens max_tool_calls metadata "
    "presence_penalty prompt_cache_options prompt_cache_retention safety_identifier stream_options temperature "
    "top_logprobs top_p truncation user".split()
)
"""Fields that only tune a request, and that the backend refuses ("Unsupported parameter"). Refused fields that change
the meaning of a request, such as ``conversation`` or ``prompt``, are passed on, so that the client gets the error."""

ID_FIELDS = ("installation_id", "session_id", "thread_id", "turn_id", "window_id")
"""Keys of the turn metadata that always come from the identity, even if the client sent others."""
OPTIONAL_ID_FIELDS = ("root_turn_id", "parent_turn_id", "parent_thread_id", "context_window_id")
"""Keys that come from the identity if it has them and the metadata contains them."""
DERIVED_FIELDS = ("window_number", "model", "reasoning_effort")
"""Keys that repeat other parts of the request."""
FIELD_TYPES = {"compaction": dict, "subagent_kind": str, "workspaces": dict}
"""Expected types of keys without a default value in the profile."""

COMPACTION = {
    "trigger": "manual",
    "reason": "user_requested",
    "implementation": "responses_compaction_v2",
    "phase": "standalone_turn",
    "strategy": "memento",
}
"""The CLI's metadata of a compaction that its user started outside of another turn."""


# ---------------------------------------------------------------------------------------------------------- headers
def build_headers(attempt: CodexAttempt, values: Mapping[str, Any]) -> dict[str, str]:
    """All headers but ``authorization``, in the profile's order."""
    return attempt.profile.responses_headers.render(values)


def add_authorization(profile: Profile, prepared: Mapping[str, str], token: str) -> dict[str, str]:
    """Add the access token to ``prepared``, at its position in the profile."""
    name, template = profile.authorization
    return order_fields({name: template.render({"access_token": token}), **prepared}, profile.responses_headers.names)


# -------------------------------------------------------------------------------------------------------------- body
def adapt_body(attempt: CodexAttempt, client_body: Mapping[str, Any]) -> dict[str, Any]:
    """Replace values in the client's body that the backend refuses. Bodies of a codex CLI need few changes.

    :param client_body: the client's body with the upstream's model name; it is not modified.
    """
    result = replace_service_tier(client_body)
    return result if attempt.client else adapt_values(result, attempt.model)


def build_placeholders(attempt: CodexAttempt, body: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the profile's placeholders for this request, the text of the turn metadata included."""
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    tier = body.get("service_tier")
    compacts = is_compaction(body)
    placeholders = {
        **attempt.profile.static_values,
        **(attempt.client.placeholders() if attempt.client else {}),
        **attempt.identity.placeholders(),
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
    if not compacts:  # the CLI omits these in a compaction
        placeholders |= {
            "turn_trigger": "user",
            "turn_model": placeholders["model"],
            "turn_effort": placeholders["reasoning_effort"],
        }
    placeholders["turn_metadata"] = jsontext.ascii_text(build_turn_metadata(attempt, placeholders))
    return placeholders


def is_compaction(body: Mapping[str, Any]) -> bool:
    """Whether the input ends with a compaction trigger."""
    items = body.get("input")
    last = items[-1] if isinstance(items, list) and items else None
    return isinstance(last, dict) and last.get("type") == TRIGGER


def build_turn_metadata(attempt: CodexAttempt, placeholders: Mapping[str, Any]) -> dict[str, Any]:
    """The turn metadata of the profile, updated and extended with the client's own keys.

    That of a codex CLI is complete already: only its ids are replaced.
    """
    result, client_fields = attempt.profile.turn_metadata.render(placeholders), attempt.identity.turn_metadata
    if not client_fields:
        return result
    client_values = {
        name: value
        for name, value in client_fields.items()
        if _has_type(value, type(result[name]) if name in result else FIELD_TYPES.get(name))
        and (
            name not in OPTIONAL_ID_FIELDS or placeholders.get(name) is not None
        )  # otherwise the client's id was malformed
    }
    if placeholders["compaction"]:  # the input decides, not the client's metadata
        fixed_form = {"implementation": COMPACTION["implementation"]}
        client_values["compaction"] = {**COMPACTION, **client_values.get("compaction", {}), **fixed_form}
        client_values["request_kind"] = placeholders["request_kind"]
    fixed = {
        name: placeholders[name]
        for name in (*OPTIONAL_ID_FIELDS, *DERIVED_FIELDS)
        if placeholders.get(name) is not None
    }
    if attempt.client and "request_kind" in client_fields:
        ids = {name: placeholders[name] for name in ID_FIELDS}
        return {**client_values, **ids, **{name: value for name, value in fixed.items() if name in client_values}}
    merged = {**result, **client_values}
    merged |= {name: placeholders[name] for name in ID_FIELDS}
    merged |= {name: value for name, value in fixed.items() if name in merged}
    return order_fields(merged, attempt.profile.turn_metadata.names)


def _has_type(value: Any, expected: type | None) -> bool:
    """Compares types exactly, because a bool is an int in Python."""
    return expected is None or type(value) is expected


def build_client_metadata(attempt: CodexAttempt, placeholders: Mapping[str, Any]) -> dict[str, str]:
    """The body's ``client_metadata``. The client's own keys are added, but cannot override those of the identity."""
    fields = attempt.profile.client_metadata
    client_values = {
        key: value
        for key, value in attempt.identity.client_metadata.items()
        if key not in fields.varying and key != TURN_METADATA
    }
    return {**fields.render(placeholders), **client_values}


def build_body(
    attempt: CodexAttempt, client_body: Mapping[str, Any], placeholders: Mapping[str, Any]
) -> dict[str, Any]:
    """The body for the backend.

    :param client_body: the body from ``adapt_body``; it is not modified.
    """
    keys = attempt.profile.body_keys
    result = {
        key: value
        for key, value in client_body.items()
        # SDKs send unused fields as null or false.
        if key in keys or (key not in UNSUPPORTED_FIELDS and value is not None and value is not False)
    }
    result |= {"store": False, "stream": True, "client_metadata": build_client_metadata(attempt, placeholders)}
    if "input" in client_body:
        result["input"] = convert_input(client_body["input"])
    result["include"] = add_encrypted_reasoning(client_body.get("include"))
    result.setdefault("prompt_cache_key", attempt.profile.prompt_cache_key.render(placeholders))
    if needs_default_instructions(attempt) and result.get("instructions") in (None, ""):
        result["instructions"] = DEFAULT_INSTRUCTIONS
    lite_form = needs_lite_form(attempt)
    if lite_form or not attempt.client:
        result |= convert_tools(result, attempt.lite)
    if lite_form and isinstance(result.get("input"), list):
        moved = to_lite_form(result, result["input"])
        result = {key: value for key, value in {**result, **moved}.items() if value is not None or key not in moved}
    return order_fields(result, keys)


def needs_default_instructions(attempt: CodexAttempt) -> bool:
    """Whether missing instructions get a default.

    Responses-lite models and CLI versions without this key (0.169) have a developer message instead.
    """
    return not attempt.lite and (attempt.client is None or "instructions" in attempt.profile.body_keys)


def needs_lite_form(attempt: CodexAttempt) -> bool:
    """Whether to convert the request to the responses-lite form. A client that sends the header of this form has
    done so itself."""
    return attempt.lite and not (attempt.client and attempt.client.lite)


def order_fields(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``fields`` with ``names`` first, in this order."""
    return {**{name: fields[name] for name in names if name in fields}, **fields}
