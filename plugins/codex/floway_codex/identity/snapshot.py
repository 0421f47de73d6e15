"""The identity that the plugin stores with a snapshot, for the requests that continue it."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_origin

PLUGIN = "codex"
"""The key of this plugin's metadata in a snapshot."""


@dataclass(frozen=True)
class StoredIdentity:
    """The identity of a stored response. The names of its fields are those in the database."""

    first_response: str
    """The id of the response that the conversation began with."""
    session: str
    thread: str
    window: int
    """The number of the window of its continuation: that of its own window, unless it was compacted."""
    turn: str
    started_ms: int
    """When the turn began, Unix time in milliseconds."""
    client_request: str
    installation: str
    asked_in: str
    """The window of the request for this response."""
    turn_state: str
    """Encrypted; empty when the backend sent none."""
    rules: Mapping[str, str]
    """The source of each id."""
    profile: str = ""
    """The version of the profile; empty if it was stored before this field was."""
    client: str = ""
    """The user agent of a codex CLI; empty for other clients."""
    transport: str = ""
    """``http`` or ``websocket``; empty if it was stored before this field was."""

    def as_metadata(self) -> dict[str, Any]:
        """Return the values that are stored with the snapshot."""
        return dict(vars(self))


def read_identity(metadata: Mapping[str, Mapping[str, Any]]) -> StoredIdentity | None:
    """Read the identity from a snapshot's metadata; None if another provider or another version wrote it."""
    stored = {**_DEFAULTS, **metadata.get(PLUGIN, {})}
    values = [stored.get(name) for name in _TYPES]
    if not all(map(isinstance, values, _TYPES.values())):
        return None
    return StoredIdentity(**dict(zip(_TYPES, values, strict=True)))  # type: ignore[arg-type]  # they were checked


_TYPES: Mapping[str, Any] = {field.name: get_origin(field.type) or field.type for field in fields(StoredIdentity)}
_DEFAULTS = {field.name: field.default for field in fields(StoredIdentity) if field.default is not MISSING}
"""Of fields that older versions did not store."""
