"""What is known of a recorded request: the values that the placeholders of a profile have in it."""

from typing import Any

from floway_codex.recordings.reading import LITE_HEADER, TURN_METADATA, TURN_STATE, RecordedRequest

COMPACTION_KIND = "compaction"

SOURCES = (
    "user_agent",
    "access_token",
    "account_id",
    "turn_metadata",
    "session_id",
    "thread_id",
    "window_id",
    "turn_id",
    "installation_id",
    "context_window_id",
    "model",
    "service_tier",
    "originator",
    "version",
)
"""Placeholders that any header may stand for or contain, the most likely first."""
CACHE_KEYS = ("session_id", "thread_id")

HEADERS = {
    "chatgpt-account-id": "account_id",
    "content-encoding": "content_encoding",
    "originator": "originator",
    "session-id": "session_id",
    "thread-id": "thread_id",
    "user-agent": "user_agent",
    "version": "version",
    "x-client-request-id": "client_request_id",
    "x-codex-beta-features": "beta_features",
    "x-codex-installation-id": "installation_id",
    "x-codex-parent-thread-id": "parent_thread_id",
    TURN_METADATA: "turn_metadata",
    TURN_STATE: "turn_state",
    "x-codex-window-id": "window_id",
    LITE_HEADER: "lite",
    "x-openai-subagent": "subagent",
}
"""Header -> the placeholder that it stands for."""

TURN_METADATA_FIELDS = (
    "installation_id session_id thread_id turn_id window_id window_number context_window_id root_turn_id "
    "parent_turn_id parent_thread_id request_kind compaction sandbox turn_started_at_unix_ms "
    "node_repl_auto_review_required node_repl_disabled"
).split()
TURN_METADATA_KEYS = {name: name for name in TURN_METADATA_FIELDS}
TURN_METADATA_KEYS |= {"model": "turn_model", "reasoning_effort": "turn_effort"}

CLIENT_METADATA = {
    **{name: name for name in ("session_id", "thread_id", "turn_id", "root_turn_id", "parent_turn_id")},
    "x-codex-installation-id": "installation_id",
    "x-codex-parent-thread-id": "parent_thread_id",
    TURN_METADATA: "turn_metadata",
    "x-codex-window-id": "window_id",
    "x-openai-subagent": "subagent",
}
BODY = {"reasoning.effort": "default_effort", "text.verbosity": "default_verbosity"}
TOKEN_BODY = {"client_id": "client_id", "refresh_token": "refresh_token", "refresh_reason": "refresh_reason"}


def is_turn(request: RecordedRequest) -> bool:
    """Whether a request is a model request of a turn."""
    return request.is_dispatch and request.turn_metadata.get("request_kind") == "turn"


def known_values(request: RecordedRequest) -> dict[str, Any]:
    """The values of the placeholders; None or missing where the request shows none."""
    body = request.body if isinstance(request.body, dict) else {}
    values: dict[str, Any] = {placeholder: request.header(name) for name, placeholder in HEADERS.items()}
    values |= {name: body.get(name) for name in TOKEN_BODY.values()}
    token = (request.header("authorization") or "").rpartition(" ")[2]
    values |= {"access_token": token or None, "version": request.version}
    if not request.is_dispatch:
        return values
    metadata, client = request.turn_metadata, body.get("client_metadata") or {}
    values |= {name: metadata.get(name) for name in TURN_METADATA_FIELDS}
    for key, placeholder in CLIENT_METADATA.items():
        if values.get(placeholder) is None:
            values[placeholder] = client.get(key)
    objects = {name: value for name, value in body.items() if isinstance(value, dict)}
    values |= {
        "model": body.get("model"),
        "service_tier": body.get("service_tier"),
        "default_effort": objects.get("reasoning", {}).get("effort"),
        "default_verbosity": objects.get("text", {}).get("verbosity"),
    }
    if metadata.get("request_kind") != COMPACTION_KIND:
        values |= {"turn_model": values["model"], "turn_effort": values["default_effort"]}
    return values
