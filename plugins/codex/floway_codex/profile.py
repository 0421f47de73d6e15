"""Client profiles: what one version of the codex CLI sends, as data (``profiles/*.json``).

A profile lists headers, metadata and body keys in the order of the recordings. Each field has one or more templates:
the first one whose ``{placeholders}`` all have a value is used, and a field without such a template is left out. A
template that is one placeholder takes its value as it is; what is not a text stands for itself. In ``turn_metadata`` a
field with null as its template only marks the place of what a client may send.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

Templates = tuple[tuple[str, tuple[Any, ...]], ...]
"""(name, alternatives) in order."""

GIVEN = frozenset(
    "version user_agent access_token account_id installation_id session_id thread_id client_request_id window_id "
    "window_number context_window_id turn_id root_turn_id parent_turn_id parent_thread_id subagent turn_metadata "
    "turn_started_at_unix_ms turn_state content_encoding lite model service_tier request_kind compaction turn_trigger "
    "turn_model turn_effort refresh_token refresh_reason".split()
)
"""Placeholders that do not come from the profile's own ``values``. Those that begin with ``turn_`` and name no id are
only there in turns, not in compactions."""


@dataclass(frozen=True)
class Profile:
    """One version of the CLI."""

    version: str
    values: Mapping[str, str]
    user_agent: str
    responses_headers: Templates
    models_headers: Templates
    token_headers: Templates
    token_body: Templates
    turn_metadata: Templates
    client_metadata: Templates
    prompt_cache_key: str
    body_keys: tuple[str, ...]

    @functools.cached_property
    def authorization(self) -> tuple[str, str]:
        """Name and template of the header of a request that carries the access token."""
        rows = [(name, one) for name, alternatives in self.responses_headers for one in alternatives]
        return next((name, one) for name, one in rows if "access_token" in _placeholders(one))

    @functools.cached_property
    def known(self) -> Mapping[str, Any]:
        """The placeholders that the profile itself has values for."""
        own = {**self.values, "version": self.version}
        return {**own, "user_agent": fill(self.user_agent, own)}


def _placeholders(template: Any) -> list[str]:
    """The names in a template."""
    return PLACEHOLDER.findall(template) if isinstance(template, str) else []


Filler = str | Callable[[Mapping[str, Any]], Any]
"""A template that is one placeholder, by the name of that; any other as what makes its value of all values."""


def fill(template: str, values: Mapping[str, Any]) -> Any:
    """``template`` with its placeholders replaced, or None when one of them has no value."""
    filler = _filler(template)
    return values.get(filler) if isinstance(filler, str) else filler(values)


def render(templates: Templates, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``templates`` that have a value, in their order."""
    rendered = {}
    for name, alternatives in _fillers(templates):
        for filler in alternatives:
            value = values.get(filler) if isinstance(filler, str) else filler(values)
            if value is not None:
                rendered[name] = value
                break
    return rendered


@functools.cache
def _fillers(templates: Templates) -> Sequence[tuple[str, Sequence[Filler]]]:
    """For each field its alternatives. There are only as many as the profiles have."""
    return [(name, [_filler_of_any(template) for template in alternatives]) for name, alternatives in templates]


def _filler_of_any(template: Any) -> Filler:
    return _filler(template) if isinstance(template, str) else lambda values: template


@functools.cache
def _filler(template: str) -> Filler:
    names = _placeholders(template)
    if not names:
        return lambda values: template
    if template == f"{{{names[0]}}}":
        return names[0]
    return lambda values: None if any(values.get(name) is None for name in names) else template.format_map(values)


@functools.cache
def constants(templates: Templates) -> frozenset[str]:
    """The fields whose value is the same in every request."""
    return frozenset(name for name, alternatives in templates if not any(map(_placeholders, alternatives)))


def render_body(templates: Templates, values: Mapping[str, Any]) -> bytes:
    """The fields as compact JSON."""
    return json.dumps(render(templates, values), separators=(",", ":")).encode()


# ---------------------------------------------------------------------------------------------------------- reading
@functools.cache
def shipped() -> Mapping[str, Profile]:
    """Every profile in the package, oldest first. Read once; profiles are never changed."""
    found = [
        read(json.loads(file.read_text()))
        for file in files("floway_codex").joinpath("profiles").iterdir()
        if file.name.endswith(".json")
    ]
    return {profile.version: profile for profile in sorted(found, key=lambda profile: ordinal(profile.version))}


def read(data: Mapping[str, Any]) -> Profile:
    """A profile from its JSON.

    :raises ValueError: a key is missing or unknown, or a placeholder is.
    """
    names = {field.name for field in fields(Profile)}
    if set(data) != names:
        raise ValueError(f"keys: {sorted(set(data) ^ names)} are missing or unknown")
    unknown = set(PLACEHOLDER.findall(" ".join(_texts(data)))) - GIVEN - set(data["values"])
    if unknown:
        raise ValueError(f"placeholders: {sorted(unknown)} are unknown")
    return Profile(**{name: _frozen(value) for name, value in data.items()})


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _frozen(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return tuple((row[0], tuple(row[1:])) if isinstance(row, list) else row for row in value)


def ordinal(version: str) -> tuple[int, ...]:
    """A sort key for versions such as ``0.142.0`` or ``0.170.0-alpha.1``."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def closest(version: str, default: Profile) -> Profile:
    """The shipped profile of ``version``, else the nearest older one, else ``default``."""
    older = [profile for profile in shipped().values() if ordinal(profile.version) <= ordinal(version)]
    return older[-1] if older else default
