"""The WebSocket part of a profile: what a request has there in addition to a POST."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_codex.wire.templates import Fields


@dataclass(frozen=True)
class WarmUpForm:
    """How the first frame of a thread differs from that of its first turn."""

    turn_metadata: frozenset[str]
    """Keys of the turn metadata that it lacks."""
    client_metadata: frozenset[str]
    """Keys of ``client_metadata`` that it lacks."""
    items: tuple[str, ...]
    """The kinds of the leading input items that it sends; the turn then leaves them out."""


@dataclass(frozen=True)
class WebSocketForm:
    """The form of the upgrade and the frames of one version of the CLI."""

    headers: Fields
    """The headers of the upgrade. ``Host`` and ``Sec-WebSocket-Key`` only mark positions."""
    frame: tuple[str, ...]
    """The keys of a frame, in order: those of a body and some more."""
    client_metadata: Fields
    """Further keys of ``client_metadata``."""
    warmup: WarmUpForm


def parse_websocket_form(data: Mapping[str, Any]) -> WebSocketForm:
    """Parse the part from its JSON.

    :raises TypeError, KeyError: a key is missing or unknown.
    """
    warmup: dict[str, Any] = {
        name: (tuple if name == "items" else frozenset)(values) for name, values in data["warmup"].items()
    }
    parsed: dict[str, Any] = {
        "headers": Fields(data["headers"]),
        "frame": tuple(data["frame"]),
        "client_metadata": Fields(data["client_metadata"]),
        "warmup": WarmUpForm(**warmup),
    }
    return WebSocketForm(**{**data, **parsed})
