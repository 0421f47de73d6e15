"""What a client says about itself: the ids it states, and the places where it states them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.protocol import jsontext

LONGEST = 200
"""Characters of an id."""
LONGEST_TEXT = 16_384
"""Characters of anything else that ends up in a header or in ``client_metadata``."""
TURN_METADATA = "x-codex-turn-metadata"

HEADER, CLIENT, METADATA = "header", "client_metadata", "turn metadata"
HEADER_METADATA, BODY_METADATA = f"{METADATA} in the header", f"{METADATA} in the body"
KINDS = {HEADER: HEADER, CLIENT: CLIENT, HEADER_METADATA: METADATA, BODY_METADATA: METADATA}

OVER_HTTP = (HEADER, CLIENT, HEADER_METADATA, BODY_METADATA)
"""The places, the first before all others."""
OVER_WEBSOCKET = (CLIENT, BODY_METADATA, HEADER, HEADER_METADATA)
"""The headers are those of the upgrade and stay as they were; the body moves on."""

KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "session": {HEADER: ("session-id", "session_id"), CLIENT: ("session_id",), METADATA: ("session_id",)},
    "thread": {HEADER: ("thread-id",), CLIENT: ("thread_id",), METADATA: ("thread_id",)},
    "client_request": {HEADER: ("x-client-request-id",)},
    "window": {HEADER: ("x-codex-window-id",), CLIENT: ("x-codex-window-id",), METADATA: ("window_id",)},
    "turn": {CLIENT: ("turn_id",), METADATA: ("turn_id",)},
    "root_turn": {CLIENT: ("root_turn_id",), METADATA: ("root_turn_id",)},
    "parent_turn": {CLIENT: ("parent_turn_id",), METADATA: ("parent_turn_id",)},
    "installation": {
        HEADER: ("x-codex-installation-id",),
        CLIENT: ("x-codex-installation-id",),
        METADATA: ("installation_id",),
    },
    "parent_thread": {
        HEADER: ("x-codex-parent-thread-id",),
        CLIENT: ("x-codex-parent-thread-id",),
        METADATA: ("parent_thread_id",),
    },
    "subagent": {HEADER: ("x-openai-subagent",), CLIENT: ("x-openai-subagent",)},
    "context_window": {METADATA: ("context_window_id",)},
}
"""Under which names an id is found, by kind of place."""
HEADERS = frozenset(key for places in KEYS.values() for key in places.get(HEADER, ()))
"""The headers among them."""


@dataclass(frozen=True)
class Stated:
    """An id, and where it was found."""

    value: str
    place: str


@dataclass(frozen=True)
class Said:
    """The places of one request in which there is something, in order."""

    places: Sequence[tuple[str, Mapping[str, Any]]]

    def find(self, name: str, fits: Callable[[str], bool] = lambda value: True) -> Stated | None:
        """The first well-formed value of an id that ``fits``."""
        for place, content in self.places:
            for key in KEYS[name].get(KINDS[place], ()):
                value = well_formed(content.get(key))
                if value and fits(value):
                    return Stated(value, f"{place}: {key}")
        return None

    @property
    def turn_metadata(self) -> Mapping[str, Any]:
        """The turn metadata as it came, from the first place that has any; ids in it may be anything."""
        return next((content for place, content in self.places if KINDS[place] == METADATA), {})

    @property
    def client_metadata(self) -> dict[str, str]:
        """The body's ``client_metadata``: its texts only; ids in it may be anything."""
        given = next((content for place, content in self.places if place == CLIENT), {})
        return {
            key: value
            for key, value in given.items()
            if isinstance(value, str) and len(value) <= LONGEST_TEXT and well_formed(key)
        }


def read(headers: Mapping[str, str], body: Mapping[str, Any], order: Sequence[str] = OVER_HTTP) -> Said:
    """What a request says.

    :param headers: names in lower case.
    """
    client = body.get("client_metadata")
    client = client if isinstance(client, dict) else {}
    places = {
        HEADER: {name: headers[name] for name in HEADERS & headers.keys()},
        CLIENT: client,
        HEADER_METADATA: _parsed(headers.get(TURN_METADATA)),
        BODY_METADATA: _parsed(client.get(TURN_METADATA)),
    }
    return Said([(place, places[place]) for place in order if places[place]])


def well_formed(value: Any) -> str | None:
    """``value`` without surrounding blanks, if it is fit for an id and a header: short, printable ASCII. Else None."""
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if 0 < len(value) <= LONGEST and value.isascii() and value.isprintable() else None


def _parsed(text: Any) -> dict[str, Any]:
    """A JSON object that can be written into a header again; empty when ``text`` is nothing of the kind."""
    if not isinstance(text, str):
        return {}
    try:
        found = jsontext.loads(text.encode("utf-8", "surrogatepass"))
        usable = isinstance(found, dict) and len(jsontext.ascii_text(found)) <= LONGEST_TEXT
    except (ValueError, RecursionError):
        return {}
    return found if usable else {}
