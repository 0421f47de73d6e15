"""What the plugin keeps with a snapshot: the identity that the conversation goes on with, and where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PLUGIN = "codex"
"""The name under which core keeps this plugin's metadata."""


@dataclass(frozen=True)
class Kept:
    """The identity of the response that a snapshot stands for."""

    first_response: str
    """The id of the response that the conversation began with."""
    session: str
    thread: str
    window: int
    """The number of the window that its continuation is in; of its own window, unless it was compacted."""
    turn: str
    started_ms: int
    """When the turn began, Unix time in milliseconds."""
    client_request: str
    installation: str
    asked_in: str
    """The window that the response was asked for in."""
    turn_state: str
    """Sealed; empty when the backend gave none."""
    rules: Mapping[str, str]
    """For each id what it was taken from."""

    def as_metadata(self) -> dict[str, Any]:
        return dict(vars(self))


def read(metadata: Mapping[str, Mapping[str, Any]]) -> Kept | None:
    """What was kept with a snapshot, or None: it is of another provider's, or of another version's making."""
    own = metadata.get(PLUGIN, {})
    if any(not isinstance(own.get(field.name), _TYPES[field.name]) for field in fields(Kept)):
        return None
    return Kept(**{field.name: own[field.name] for field in fields(Kept)})


_TYPES = {
    "first_response": str,
    "session": str,
    "thread": str,
    "window": int,
    "turn": str,
    "started_ms": int,
    "client_request": str,
    "installation": str,
    "asked_in": str,
    "turn_state": str,
    "rules": dict,
}
