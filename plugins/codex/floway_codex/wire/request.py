"""The headers and the body for the backend, from identity and profile. Pure functions."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from floway_codex.attempt import CodexAttempt
from floway_codex.identity import uuids
from floway_codex.identity.claims import TURN_METADATA, is_header_text
from floway_codex.wire import shaping
from floway_codex.wire.encoding import IDENTITY
from floway_codex.wire.input_state import InputState
from floway_codex.wire.items import convert_input, move_to_input
from floway_codex.wire.profile import Profile
from floway_codex.wire.templates import in_random_order, order_fields
from floway_codex.wire.tools import convert_tools
from floway_codex.wire.values import adapt_values, add_encrypted_reasoning, replace_service_tier
from floway_core.protocol import jsontext
from floway_core.protocol.items import TRIGGER
from floway_core.protocol.lazy_items import LazyItems

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

MODEL_FLAGS = ("node_repl_auto_review_required", "node_repl_disabled")
"""Fields of a model's catalogue entry that are in the turn metadata."""
REQUIRED_METADATA = (
    "session_id",
    "thread_id",
    "turn_id",
    "x-codex-installation-id",
    TURN_METADATA,
    "x-codex-window-id",
)
"""Keys of ``client_metadata`` that every version sends."""
MAX_CACHE_KEY_LENGTH = 64
FORCED = {"store": False, "stream": True}
"""Fields of the body that the backend accepts with one value only."""


# ---------------------------------------------------------------------------------------------------------- headers
def build_headers(attempt: CodexAttempt, values: Mapping[str, Any]) -> dict[str, str]:
    """All headers but ``authorization``, in the profile's order.

    Of a codex CLI, headers that the profile only has a place for are passed on, and so are those that it does not know:
    a newer version may need them. Unknown ones go behind the header that precedes them in the client's request.
    """
    fields = attempt.profile.responses_headers
    return add_own_headers(attempt, fields.render(header_values(values)), fields.names)


def header_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of the placeholders for headers, into which not every name of a model fits."""
    model = values.get("model")
    return values if isinstance(model, str) and is_header_text(model) else {**values, "model": None}


def add_own_headers(attempt: CodexAttempt, headers: dict[str, str], names: Sequence[str]) -> dict[str, str]:
    """``headers`` with those of a codex CLI that its profile has no value for, as in ``build_headers``.

    :param names: the order of the headers.
    """
    if attempt.client is None:
        return headers
    posted = {name for name, templates in attempt.profile.responses_headers.templates if templates}
    own = {name: value for name, value in attempt.client.headers.items() if name not in posted}
    if not own:
        return headers
    placed = order_fields({**headers, **{name: own[name] for name in names if name in own}}, names)
    for name in (one for one in own if one not in placed):
        placed = _insert_behind(placed, name, own[name], attempt.client.header_order)
    return placed


def _insert_behind(headers: Mapping[str, str], name: str, value: str, order: tuple[str, ...]) -> dict[str, str]:
    """``headers`` with one more, behind the nearest one that precedes it in ``order``; else in front."""
    before = [one for one in order[: order.index(name)] if one in headers]
    pairs = list(headers.items())
    at = list(headers).index(before[-1]) + 1 if before else 0
    return dict([*pairs[:at], (name, value), *pairs[at:]])


def add_authorization(profile: Profile, prepared: Mapping[str, str], token: str) -> dict[str, str]:
    """Add the access token to ``prepared``, at its position in the profile."""
    name, template = profile.authorization
    value = template.render({"access_token": token})
    if not prepared.keys() <= profile.header_names:  # unknown ones stay behind the header that precedes them
        pairs = list(prepared.items())
        behind = (at for at, (other, _) in enumerate(pairs) if other in profile.headers_behind_authorization)
        at = next(behind, len(pairs))
        return dict([*pairs[:at], (name, value), *pairs[at:]])
    headers = {**prepared, name: value}
    for later in profile.headers_behind_authorization:  # usually there are no others, and these are few
        if later in headers:
            headers[later] = headers.pop(later)
    return headers


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
        "default_effort": attempt.model.get("default_reasoning_level"),
        "default_verbosity": attempt.model.get("default_verbosity") if attempt.model.get("support_verbosity") else None,
        **{name: attempt.model.get(name) is True for name in MODEL_FLAGS},
        "request_kind": "compaction" if compacts else "turn",
        "compaction": attempt.profile.compaction if compacts else None,
    }
    if not compacts:  # the CLI omits these in a compaction
        default = None if attempt.client else placeholders["default_effort"]
        placeholders |= {
            "turn_model": placeholders["model"],
            "turn_effort": placeholders["reasoning_effort"] or default,
        }
    placeholders["turn_metadata"] = jsontext.ascii_text(build_turn_metadata(attempt, placeholders))
    return placeholders


def is_compaction(body: Mapping[str, Any]) -> bool:
    """Whether the input ends with a compaction trigger."""
    items = body.get("input")
    last = items[-1] if isinstance(items, list | LazyItems) and items else None
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
        # without a value of the identity, the client's id was malformed
        and (name not in OPTIONAL_ID_FIELDS or placeholders.get(name) is not None)
    }
    if placeholders["compaction"]:  # the input decides, not the client's metadata
        usual = attempt.profile.compaction
        fixed_form = {"implementation": usual["implementation"]}
        client_values["compaction"] = {**usual, **client_values.get("compaction", {}), **fixed_form}
        client_values["request_kind"] = placeholders["request_kind"]
    fixed = {
        name: placeholders[name]
        for name in (*OPTIONAL_ID_FIELDS, *DERIVED_FIELDS)
        if placeholders.get(name) is not None
    }
    if sends_whole_metadata(attempt):
        ids = {name: placeholders[name] for name in ID_FIELDS}
        return {**client_values, **ids, **{name: value for name, value in fixed.items() if name in client_values}}
    merged = {**result, **client_values}
    merged |= {name: placeholders[name] for name in ID_FIELDS}
    merged |= {name: value for name, value in fixed.items() if name in merged}
    return order_fields(merged, attempt.profile.turn_metadata.names)


def sends_whole_metadata(attempt: CodexAttempt) -> bool:
    """Whether the client is a codex CLI whose metadata is complete."""
    return attempt.client is not None and "request_kind" in attempt.identity.turn_metadata


def _has_type(value: Any, expected: type | None) -> bool:
    """Compares types exactly, because a bool is an int in Python."""
    return expected is None or type(value) is expected


def build_client_metadata(attempt: CodexAttempt, placeholders: Mapping[str, Any]) -> dict[str, str]:
    """The body's ``client_metadata``. The client's own keys are added, but cannot override those of the identity.

    A codex CLI sends all keys that its version has, except for constants that only the backend gets.
    """
    fields = attempt.profile.client_metadata
    claimed = attempt.identity.client_metadata
    if not claimed:
        return in_random_order(fields.render(placeholders), attempt.seed)
    client_values = {key: value for key, value in claimed.items() if key not in fields.varying and key != TURN_METADATA}
    own = fields.render(placeholders)
    if sends_whole_metadata(attempt):
        own = {
            key: value
            for key, value in own.items()
            if key in {*claimed, *REQUIRED_METADATA} or key not in fields.varying
        }
    return in_random_order({**own, **client_values}, attempt.seed)  # the same whenever the request is sent again


def build_body(
    attempt: CodexAttempt,
    client_body: Mapping[str, Any],
    placeholders: Mapping[str, Any],
    state: InputState,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The body for the backend, and the items at the beginning of its input that stand for fields of the client's.

    :param client_body: the body from ``adapt_body``; it is not modified.
    :param state: of the input items that ``client_body`` lacks because a connection has sent them, with the leading
        ones; it is updated. Then the body lacks them as well.
    """
    profile, keys = attempt.profile, attempt.profile.body_keys
    result = {**client_body}
    for key in client_body.keys() - profile.known_fields:
        # SDKs send unused fields as null or false.
        if key in UNSUPPORTED_FIELDS or client_body[key] is None or client_body[key] is False:
            del result[key]
    result |= {**FORCED, "client_metadata": build_client_metadata(attempt, placeholders)}
    if "input" in client_body:
        result["input"] = convert_input(client_body["input"], state)
    result["include"] = add_encrypted_reasoning(client_body.get("include"))
    defaults = profile.body.render(placeholders)
    result.setdefault("prompt_cache_key", to_cache_key(defaults["prompt_cache_key"]))
    if needs_default_instructions(attempt) and result.get("instructions") in (None, ""):
        result["instructions"] = DEFAULT_INSTRUCTIONS
    if needs_lite_form(attempt) or not attempt.client:
        result |= convert_tools(result, attempt.lite)
    if not result.get("instructions") and not profile.names_instructions:
        result.pop("instructions", None)
    leading: list[dict[str, Any]] = []
    if moves_instructions(attempt) and isinstance(result.get("input"), list):
        result, leading = move_to_input(result, attempt.lite)
        if not state.count:
            result["input"] = [*leading, *result["input"]]
    if attempt.client:  # its order is that of its version, and its items have their form
        if isinstance(result.get("input"), list):
            state.count += len(result["input"])
            if attempt.has_added_history:
                result["input"] = shaping.shape_output_items(result["input"], profile, attempt.lite, state)
        if "client_metadata" not in client_body:  # from the endpoint for compactions, whose requests have fewer fields
            return order_fields({**_without_inner(defaults), **result}, keys), leading
        return order_fields(result, [*_with_missing(client_body, keys)]), leading
    result = shaping.add_defaults(result, defaults, profile)
    if isinstance(result.get("input"), list):
        result["input"] = shaping.shape_items(result["input"], profile, attempt.identity.thread, attempt.lite, state)
    return order_fields(result, keys), leading


def _without_inner(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not inside of others."""
    return {name: value for name, value in fields.items() if "." not in name}


def to_cache_key(value: str) -> str:
    """``value`` if the backend accepts it as a cache key, else one derived from it."""
    if len(value) <= MAX_CACHE_KEY_LENGTH:
        return value
    return uuids.derive_uuid7(hashlib.sha256(value.encode()).hexdigest())


def _with_missing(present: Iterable[str], keys: Iterable[str]) -> list[str]:
    """The names of ``present`` in their order, and those of ``keys`` that are missing behind the one before them."""
    names, order = list(present), list(keys)
    for place, key in enumerate(order):
        if key not in names:
            before = [names.index(one) for one in order[:place] if one in names]
            names.insert(max(before, default=-1) + 1, key)
    return names


def needs_default_instructions(attempt: CodexAttempt) -> bool:
    """Whether missing instructions get a default: the backend requires them of versions that send them as a field."""
    return not attempt.lite and attempt.profile.names_instructions


def needs_lite_form(attempt: CodexAttempt) -> bool:
    """Whether to convert the request to the responses-lite form. A client that sends the header of this form has
    done so itself."""
    return attempt.lite and not (attempt.client and attempt.client.lite)


def moves_instructions(attempt: CodexAttempt) -> bool:
    """Whether instructions become an input item."""
    return needs_lite_form(attempt) or (attempt.client is None and not attempt.profile.names_instructions)


def moved_fields(attempt: CodexAttempt) -> frozenset[str]:
    """The fields that become input items."""
    if needs_lite_form(attempt):
        return frozenset({"instructions", "tools"})
    return frozenset({"instructions"} if moves_instructions(attempt) else ())


def moved_values(attempt: CodexAttempt, client_body: Mapping[str, Any]) -> dict[str, Any]:
    """The client's values of ``moved_fields``, which decide about the items at the beginning of the input."""
    return {name: client_body.get(name) for name in moved_fields(attempt)}
