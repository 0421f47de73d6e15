"""The sources of the fields of a request, as text for the operator."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from floway_codex.wire.profile import Profile
from floway_codex.wire.templates import Template

IDS = {
    "session_id": "session",
    "thread_id": "thread",
    "client_request_id": "client_request",
    "window_id": "window",
    "window_number": "window",
    "turn_id": "turn",
    "installation_id": "installation",
}
"""Placeholder -> the id that it stands for."""

SOURCES = {
    "access_token": "account",
    "account_id": "account",
    "arch": "host",
    "beta_features": "profile",
    "compaction": "profile, if the input ends with a trigger",
    "content_encoding": "setting FLOWAY_CODEX_REQUEST_ENCODING",
    "context_window_id": "client, else derived from the window",
    "default_effort": "client, else the model's catalogue entry",
    "default_verbosity": "client, else the model's catalogue entry",
    "lite": "the model's catalogue entry",
    "model": "client",
    "node_repl_auto_review_required": "the model's catalogue entry",
    "node_repl_disabled": "the model's catalogue entry",
    "originator": "profile",
    "os": "host",
    "parent_thread_id": "client",
    "parent_turn_id": "client",
    "request_start_ms": "the time",
    "request_kind": "whether the input ends with a trigger",
    "root_turn_id": "client, else the turn",
    "sandbox": "host",
    "service_tier": "client",
    "subagent": "client",
    "terminal": "host",
    "turn_effort": "reasoning.effort",
    "turn_metadata": "the turn metadata below",
    "turn_model": "model",
    "turn_started_at_unix_ms": "client, else the beginning of the turn",
    "turn_state": "backend, earlier in the turn",
    "user_agent": "profile and host",
    "version": "profile",
}
"""Placeholder -> the source of its value for clients that are no CLI."""
CLI_SOURCES = {
    "beta_features": "client",
    "lite": "client, else the model's catalogue entry",
    "originator": "client",
    "sandbox": "client",
    "user_agent": "client",
    "version": "client's user agent",
}
"""The same for a codex CLI, where it differs."""


@dataclass(frozen=True)
class FieldSource:
    """Where one field of a request comes from."""

    section: str
    """``header``, ``turn metadata``, ``client_metadata``, ``in frames`` (of ``client_metadata``) or ``body``."""
    name: str
    source: str


def describe_fields(
    profile: Profile, rules: Mapping[str, str], *, is_cli: bool, transport: str = ""
) -> Iterator[FieldSource]:
    """The source of each field that a request with ``profile`` may have, in the order of the profile.

    :param rules: the source of each id.
    :param is_cli: whether the client was a codex CLI.
    :param transport: ``websocket`` if it went over one; otherwise it was a POST.
    """
    websocket = profile.websocket if transport == "websocket" else None
    sections = {
        "header": websocket.headers if websocket else profile.responses_headers,
        "turn metadata": profile.turn_metadata,
        "client_metadata": profile.client_metadata,
        **({"in frames": websocket.client_metadata} if websocket else {}),
        "body": profile.body,
    }
    for section, fields in sections.items():
        own = is_cli and section in ("turn metadata", "body")
        for name, templates in fields.templates:
            yield FieldSource(section, name, _source(section, templates, rules, own, is_cli, profile))
    for kind, form in profile.items.items():
        for name, templates in form.templates:
            if templates and not is_cli:
                source = "client, else derived from thread and position" if name == "id" else "client, else the profile"
                yield FieldSource("body", f"input[].{name} ({kind})", source)


def _source(
    section: str, templates: list[Template], rules: Mapping[str, str], own: bool, is_cli: bool, profile: Profile
) -> str:
    names = [name for template in templates for name in template.names]
    if own and not any(name in IDS for name in names):
        return "client"
    if not names:
        constant = f"constant of the profile {profile.version}"
        return "client" if not templates else f"client, else {constant}" if section == "body" else constant
    sources = {**SOURCES, **CLI_SOURCES} if is_cli else SOURCES
    texts = [rules.get(IDS[name], "") if name in IDS else sources.get(name, "profile") for name in names]
    return " and ".join(dict.fromkeys(texts))
