"""Client profiles: what one version of the codex CLI sends, as data (``profiles/*.json``).

A profile lists headers, metadata, body keys and item keys in the order of the recordings. Each field has any number of
templates: the first one that renders to a value is used, and a field without such a template is left out. A field
without templates only marks the position of what a client may send. ``floway codex profile make`` writes these files.
"""

import functools
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from floway_codex.wire.shapes import Shapes
from floway_codex.wire.templates import IF, PLACEHOLDER, VALUE, Fields, Template
from floway_codex.wire.websocket_form import WebSocketForm, parse_websocket_form

REQUEST_PLACEHOLDERS = frozenset(
    "version user_agent access_token account_id installation_id session_id thread_id client_request_id window_id "
    "window_number context_window_id turn_id root_turn_id parent_turn_id parent_thread_id subagent turn_metadata "
    "turn_started_at_unix_ms turn_state content_encoding lite model service_tier request_kind compaction turn_trigger "
    "turn_model turn_effort default_effort default_verbosity node_repl_auto_review_required node_repl_disabled "
    "refresh_token refresh_reason request_start_ms uuid4 uuid5 uuid7 hex".split()
)
"""Placeholders whose values come from the request. ``turn_model`` and ``turn_effort`` have none in compactions;
``default_*`` and ``node_repl_*`` are fields of the model's catalogue entry; ``uuid*`` and ``hex`` are parts of
item ids."""

IN_FIELD, IN_MESSAGE = "field", "message"
"""The position of instructions: in the field ``instructions``, or in a developer message that leads the input."""

NEWEST = "newest"
"""The setting for the profile of the newest version."""


@dataclass(frozen=True)
class Profile:
    """One version of the CLI."""

    version: str
    values: Mapping[str, str]
    """Values of further placeholders: those of the recorded process and its host."""
    user_agent: Template
    responses_headers: Fields
    models_headers: Fields
    token_headers: Fields
    token_body: Fields
    turn_metadata: Fields
    client_metadata: Fields
    compaction: Mapping[str, str]
    """The turn metadata's ``compaction`` when the user starts one outside of another turn."""
    body: Fields
    """The keys of a body; ``reasoning.effort`` is the key ``effort`` of ``reasoning``. Their values are for requests
    that have none."""
    instructions: str
    """``IN_FIELD`` or ``IN_MESSAGE``, for models without responses-lite."""
    items: Mapping[str, Fields]
    """The keys of input items, by type; for messages by ``message`` and the role, for their parts by ``part`` and the
    type. A key with the template null is always there, and null."""
    websocket: WebSocketForm | None = None
    """What differs if a request goes over a WebSocket; None for a version that sends POSTs only."""

    @functools.cached_property
    def authorization(self) -> tuple[str, Template]:
        """Name and template of the header that carries the access token."""
        rows = [(name, one) for name, alternatives in self.responses_headers.templates for one in alternatives]
        return next((name, one) for name, one in rows if "access_token" in one.names)

    @functools.cached_property
    def header_names(self) -> frozenset[str]:
        """The names of all headers of a POST."""
        return frozenset(self.responses_headers.names)

    @functools.cached_property
    def headers_behind_authorization(self) -> tuple[str, ...]:
        """The names of the headers that follow the access token, in order."""
        names = self.responses_headers.names
        return tuple(names[names.index(self.authorization[0]) + 1 :])

    @functools.cached_property
    def body_keys(self) -> tuple[str, ...]:
        """The top-level keys of a body, in order."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.body.names))

    @functools.cached_property
    def known_fields(self) -> frozenset[str]:
        """The top-level keys of a body, and the instructions, which may become an input item."""
        return frozenset({*self.body_keys, "instructions"})

    @functools.cached_property
    def inner_keys(self) -> Mapping[str, tuple[str, ...]]:
        """The keys inside of some fields of the body, in order."""
        names = [name for _, name, _ in self.inner_paths]
        return {outer: tuple(key for _, name, key in self.inner_paths if name == outer) for outer in names}

    @functools.cached_property
    def inner_paths(self) -> tuple[tuple[str, str, str], ...]:
        """The keys inside of some fields of the body: the name in ``body``, the field, and the key."""
        paths = [name for name in self.body.names if "." in name]
        return tuple((path, *path.split(".", 1)) for path in paths)  # type: ignore[misc]  # always two parts

    @functools.cached_property
    def static_values(self) -> Mapping[str, Any]:
        """The values of the placeholders that do not depend on a request."""
        values = {**self.values, "version": self.version}
        return {**values, "user_agent": self.user_agent.render(values)}

    @functools.cached_property
    def shapes(self) -> Shapes:
        """What the forms of ``items`` change in items."""
        return Shapes(self.items)

    @property
    def names_instructions(self) -> bool:
        """Whether instructions are a field of the body."""
        return self.instructions == IN_FIELD


# ---------------------------------------------------------------------------------------------------------- reading
@functools.cache
def read_profile_files(folder: str = "") -> Mapping[str, Mapping[str, Any]]:
    """The JSON of all profiles by version, oldest first.

    :param folder: where the operator's own profiles are; they replace shipped ones of the same version.
    :raises ValueError: a file holds no JSON object with a version.
    """
    shipped = files("floway_codex").joinpath("profiles").iterdir()
    own = sorted(Path(folder).glob("*.json")) if folder else []
    data_by_version = {}
    for file in (*(one for one in shipped if one.name.endswith(".json")), *own):
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            data_by_version[str(data["version"])] = data
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise ValueError(f"{file.name} is no profile: {error!r}") from error
    return dict(sorted(data_by_version.items(), key=lambda item: version_key(item[0])))


@functools.cache
def load_profiles(folder: str = "") -> Mapping[str, Profile]:
    """All profiles by version, oldest first. They are read once and never change.

    :param folder: where the operator's own profiles are; they replace shipped ones of the same version.
    :raises ValueError: a file is no profile; the message names its version.
    """
    profiles = {}
    for version, data in read_profile_files(folder).items():
        try:
            profiles[version] = parse_profile(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the profile of {version}: {error}") from error
    return profiles


def choose_profile(name: str, folder: str = "") -> Profile:
    """The profile for clients that are not a codex CLI.

    :param name: a version, or ``NEWEST``.
    :raises KeyError: there is no such profile.
    """
    profiles = load_profiles(folder)
    return list(profiles.values())[-1] if name == NEWEST else profiles[name]


OPTIONAL = frozenset({"websocket"})
"""Keys that a profile may lack."""


def parse_profile(data: Mapping[str, Any]) -> Profile:
    """Make a profile from its JSON.

    :raises ValueError: a key is missing, or a key or placeholder is unknown.
    """
    names = {field.name for field in fields(Profile)}
    if set(data) | OPTIONAL != names:
        raise ValueError(f"keys: {sorted((set(data) | OPTIONAL) ^ names)} are missing or unknown")
    unknown = set(PLACEHOLDER.findall(" ".join(_texts(data)))) - REQUEST_PLACEHOLDERS - set(data["values"])
    if unknown:
        raise ValueError(f"placeholders: {sorted(unknown)} are unknown")
    if data["instructions"] not in (IN_FIELD, IN_MESSAGE):
        raise ValueError(f"instructions: neither {IN_FIELD!r} nor {IN_MESSAGE!r}")
    types = get_type_hints(Profile)
    converted = {name: types[name](value) for name, value in data.items() if types[name] in (Template, Fields)}
    converted["items"] = {kind: Fields(rows) for kind, rows in data["items"].items()}
    websocket = data.get("websocket")
    converted["websocket"] = None if websocket is None else parse_websocket_form(websocket)
    return Profile(**{**data, **converted})


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and value.keys() == {IF, VALUE}:
        yield f"{{{value[IF]}}}"
        yield from _texts(value[VALUE])
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


# --------------------------------------------------------------------------------------------------------- choosing
def version_key(version: str) -> tuple[int, ...]:
    """A sort key for versions such as ``0.142.0`` or ``0.170.0-alpha.1``."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def nearest_version(version: str, candidates: Iterable[str]) -> str:
    """The one of ``candidates`` that is the fewest minor versions away; the older one of two."""
    target = version_key(version)
    return min(candidates, key=lambda one: (_distance(version_key(one), target), version_key(one)))


def profile_for_version(version: str, folder: str = "") -> Profile:
    """The profile of ``version``, else the nearest one by its number."""
    profiles = load_profiles(folder)
    return profiles.get(version) or profiles[nearest_version(version, profiles)]


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(abs(first - second) for first, second in zip(one, other, strict=False))


@dataclass(frozen=True)
class RequestShape:
    """The features of a request of a codex CLI that identify its version. Only what it sends to gateways as well."""

    headers: frozenset[str]
    body_keys: tuple[str, ...]
    turn_metadata: tuple[str, ...]
    client_metadata: frozenset[str]


@functools.lru_cache(maxsize=512)
def closest_profile(version: str, shape: RequestShape, folder: str = "") -> Profile:
    """The profile of ``version``. Without one, that with the fewest differences from ``shape``; of equal ones the
    nearest older version, else the nearest newer one. A version that is newer than all gets the newest."""
    profiles = load_profiles(folder)
    newest, target = list(profiles)[-1], version_key(version)
    if version in profiles:
        return profiles[version]
    if target > version_key(newest):
        return profiles[newest]
    older = [profile for profile in profiles.values() if version_key(profile.version) <= target]
    newer = [profile for profile in profiles.values() if version_key(profile.version) > target]
    return min([*reversed(older), *newer], key=lambda profile: count_differences(profile, shape))


def count_differences(profile: Profile, shape: RequestShape) -> int:
    """How many names of ``shape`` a profile does not have, or would add, or has in another order."""
    metadata, body, compared = profile.turn_metadata, profile.body, shape.headers & COMPARED_HEADERS
    return (
        _count_names(metadata, shape.turn_metadata)
        + _count_moves(metadata.names, shape.turn_metadata)
        + _count_names(profile.client_metadata, shape.client_metadata, added=BACKEND_ONLY_METADATA)
        + (_count_names(profile.responses_headers, compared, only=COMPARED_HEADERS) if shape.headers else 0)
        + _count_moves(profile.body_keys, shape.body_keys)
        + len([name for name in shape.body_keys if name not in profile.body_keys])
        + len(
            [name for name, templates in body.templates if templates and "." not in name and _is_missing(name, shape)]
        )
    )


COMPARED_HEADERS = frozenset({"accept-encoding"})
"""Headers that the CLI sends to gateways, too, and that only some versions send."""
BACKEND_ONLY_METADATA = frozenset({"guardian_credits_requested", "mcp_attribution"})
"""Keys of ``client_metadata`` that the CLI does not send to gateways."""


def _is_missing(name: str, shape: RequestShape) -> bool:
    return bool(shape.body_keys) and name not in shape.body_keys


def _count_names(
    own: Fields, names: Iterable[str], added: frozenset[str] = frozenset(), only: frozenset[str] | None = None
) -> int:
    """Names that ``own`` lacks, and constants of ``own`` that are not among ``names``."""
    own_names, other_names = set(own.names), set(names)
    constants = {
        name for name, alternatives in own.templates if any(not one.names and not one.condition for one in alternatives)
    }
    expected = (constants if only is None else constants & only) - added
    return len(other_names - own_names) + len(expected - other_names if other_names or only else ())


def _count_moves(order: Iterable[str], names: Iterable[str]) -> int:
    """Count the neighbours among ``names`` that have the opposite order in ``order``."""
    positions = {name: position for position, name in enumerate(order)}
    sequence = [positions[name] for name in names if name in positions]
    return sum(second < first for first, second in itertools.pairwise(sequence))
