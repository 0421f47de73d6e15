"""Client profiles: what one version of the codex CLI sends, as data (``profiles/*.json``).

A profile lists headers, metadata and body keys in the order of the recordings. Each field has one or more templates:
the first one whose ``{placeholders}`` all have a value is used, and a field without such a template is left out. In
``turn_metadata`` a field with null as its template only marks the place of what a client may send.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, get_type_hints

from floway_codex.wire.templates import PLACEHOLDER, Fields, Template

REQUEST_PLACEHOLDERS = frozenset(
    "version user_agent access_token account_id installation_id session_id thread_id client_request_id window_id "
    "window_number context_window_id turn_id root_turn_id parent_turn_id parent_thread_id subagent turn_metadata "
    "turn_started_at_unix_ms turn_state content_encoding lite model service_tier request_kind compaction turn_trigger "
    "turn_model turn_effort refresh_token refresh_reason".split()
)
"""Placeholders whose values come from the request. ``turn_trigger``, ``turn_model`` and ``turn_effort`` have none in
compactions."""


@dataclass(frozen=True)
class Profile:
    """One version of the CLI."""

    version: str
    values: Mapping[str, str]
    user_agent: Template
    responses_headers: Fields
    models_headers: Fields
    token_headers: Fields
    token_body: Fields
    turn_metadata: Fields
    client_metadata: Fields
    prompt_cache_key: Template
    body_keys: tuple[str, ...]

    @functools.cached_property
    def authorization(self) -> tuple[str, Template]:
        """Name and template of the header that carries the access token."""
        rows = [(name, one) for name, alternatives in self.responses_headers.templates for one in alternatives]
        return next((name, one) for name, one in rows if "access_token" in one.names)

    @functools.cached_property
    def static_values(self) -> Mapping[str, Any]:
        """The values of the placeholders that do not depend on a request."""
        values = {**self.values, "version": self.version}
        return {**values, "user_agent": self.user_agent.render(values)}


# ---------------------------------------------------------------------------------------------------------- reading
@functools.cache
def load_profiles() -> Mapping[str, Profile]:
    """All profiles of the package by version, oldest first. They are read once and never change."""
    profiles = [
        parse_profile(json.loads(file.read_text()))
        for file in files("floway_codex").joinpath("profiles").iterdir()
        if file.name.endswith(".json")
    ]
    return {profile.version: profile for profile in sorted(profiles, key=lambda profile: version_key(profile.version))}


def parse_profile(data: Mapping[str, Any]) -> Profile:
    """Make a profile from its JSON.

    :raises ValueError: a key is missing, or a key or placeholder is unknown.
    """
    names = {field.name for field in fields(Profile)}
    if set(data) != names:
        raise ValueError(f"keys: {sorted(set(data) ^ names)} are missing or unknown")
    unknown = set(PLACEHOLDER.findall(" ".join(_texts(data)))) - REQUEST_PLACEHOLDERS - set(data["values"])
    if unknown:
        raise ValueError(f"placeholders: {sorted(unknown)} are unknown")
    types = get_type_hints(Profile)
    converted = {name: types[name](value) for name, value in data.items() if types[name] in (Template, Fields)}
    return Profile(**{**data, **converted, "body_keys": tuple(data["body_keys"])})


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def version_key(version: str) -> tuple[int, ...]:
    """A sort key for versions such as ``0.142.0`` or ``0.170.0-alpha.1``."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def closest_profile(version: str, default: Profile) -> Profile:
    """The shipped profile of ``version``, else the nearest older one, else ``default``."""
    older = [profile for profile in load_profiles().values() if version_key(profile.version) <= version_key(version)]
    return older[-1] if older else default
