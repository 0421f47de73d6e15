"""The ids that a client claims in its request: where it may write them, and which source wins."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from floway_core.protocol import jsontext

MAX_ID_LENGTH = 200
"""The most characters of an id."""
MAX_TEXT_LENGTH = 16_384
"""The most characters of any other text that goes into a header or into ``client_metadata``."""
TURN_METADATA = "x-codex-turn-metadata"

HEADER, CLIENT_METADATA, METADATA = "header", "client_metadata", "turn metadata"
HEADER_METADATA, BODY_METADATA = f"{METADATA} in the header", f"{METADATA} in the body"
KINDS = {HEADER: HEADER, CLIENT_METADATA: CLIENT_METADATA, HEADER_METADATA: METADATA, BODY_METADATA: METADATA}

OVER_HTTP = (HEADER, CLIENT_METADATA, HEADER_METADATA, BODY_METADATA)
"""The sources of a request over HTTP, by precedence."""
OVER_WEBSOCKET = (CLIENT_METADATA, BODY_METADATA, HEADER, HEADER_METADATA)
"""The sources of a request over a WebSocket: its headers are those of the upgrade, so the body takes precedence."""

KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "session": {HEADER: ("session-id", "session_id"), CLIENT_METADATA: ("session_id",), METADATA: ("session_id",)},
    "thread": {HEADER: ("thread-id",), CLIENT_METADATA: ("thread_id",), METADATA: ("thread_id",)},
    "client_request": {HEADER: ("x-client-request-id",)},
    "window": {HEADER: ("x-codex-window-id",), CLIENT_METADATA: ("x-codex-window-id",), METADATA: ("window_id",)},
    "turn": {CLIENT_METADATA: ("turn_id",), METADATA: ("turn_id",)},
    "root_turn": {CLIENT_METADATA: ("root_turn_id",), METADATA: ("root_turn_id",)},
    "parent_turn": {CLIENT_METADATA: ("parent_turn_id",), METADATA: ("parent_turn_id",)},
    "installation": {
        HEADER: ("x-codex-installation-id",),
        CLIENT_METADATA: ("x-codex-installation-id",),
        METADATA: ("installation_id",),
    },
    "parent_thread": {
        HEADER: ("x-codex-parent-thread-id",),
        CLIENT_METADATA: ("x-codex-parent-thread-id",),
        METADATA: ("parent_thread_id",),
    },
    "subagent": {HEADER: ("x-openai-subagent",), CLIENT_METADATA: ("x-openai-subagent",)},
    "context_window": {METADATA: ("context_window_id",)},
}
"""The names of each id, by kind of source."""
CLAIM_HEADERS = frozenset(key for sources in KEYS.values() for key in sources.get(HEADER, ()))
"""The headers that may hold an id, in lower case."""


class Claim(NamedTuple):
    """The value of an id, and where it comes from."""

    value: str
    source: str


class ClaimedIds(NamedTuple):
    """The non-empty sources of one request, by precedence."""

    sources: Sequence[tuple[str, Mapping[str, Any]]]

    def find(self, name: str, fits: Callable[[str], bool] = lambda value: True) -> Claim | None:
        """The first well-formed value of an id for which ``fits`` returns true."""
        if not self.sources:  # most clients are no codex CLI
            return None
        for source, content in self.sources:
            for key in KEYS[name].get(KINDS[source], ()):
                value = parse_id(content.get(key))
                if value and fits(value):
                    return Claim(value, f"{source}: {key}")
        return None

    def find_value(self, name: str) -> str | None:
        """The first well-formed value of an id."""
        claim = self.find(name)
        return claim.value if claim else None

    def find_values(self, names: Sequence[str]) -> dict[str, str | None]:
        """The first well-formed value of each of these ids."""
        return {name: self.find_value(name) for name in names} if self.sources else dict.fromkeys(names)

    @property
    def turn_metadata(self) -> Mapping[str, Any]:
        """The client's turn metadata, from the first source that has any. Its ids are not validated."""
        if not self.sources:
            return {}
        return next((content for source, content in self.sources if KINDS[source] == METADATA), {})

    @property
    def client_metadata(self) -> dict[str, str]:
        """The text values of the body's ``client_metadata``. Its ids are not validated."""
        if not self.sources:
            return {}
        metadata = next((content for source, content in self.sources if source == CLIENT_METADATA), {})
        return {
            key: value
            for key, value in metadata.items()
            if isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH and parse_id(key)
        }


NO_CLAIMS = ClaimedIds(())
"""Those of most clients that are no codex CLI."""

_SOURCE_HEADERS = CLAIM_HEADERS | {TURN_METADATA}


def read_claims(headers: Mapping[str, str], body: Mapping[str, Any], order: Sequence[str] = OVER_HTTP) -> ClaimedIds:
    """Collect the sources of ids in a request.

    :param headers: names in lower case.
    """
    client = body.get("client_metadata")
    if client is None and _SOURCE_HEADERS.isdisjoint(headers):
        return NO_CLAIMS
    client = client if isinstance(client, dict) else {}
    sources = {
        HEADER: {name: headers[name] for name in CLAIM_HEADERS & headers.keys()},
        CLIENT_METADATA: client,
        HEADER_METADATA: _parse_object(headers.get(TURN_METADATA)),
        BODY_METADATA: _parse_object(client.get(TURN_METADATA)),
    }
    return ClaimedIds([(source, sources[source]) for source in order if sources[source]])


def parse_id(value: Any) -> str | None:
    """Strip ``value``, and return it if it can be an id in a header: short, printable ASCII. Else return None."""
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if 0 < len(value) <= MAX_ID_LENGTH and value.isascii() and value.isprintable() else None


def is_header_text(value: str) -> bool:
    """Whether a text can be passed on in a header: printable ASCII, not too long."""
    return len(value) <= MAX_TEXT_LENGTH and value.isascii() and value.isprintable()


def _parse_object(text: Any) -> dict[str, Any]:
    """Parse a JSON object that fits into a header again; anything else becomes an empty one."""
    if not isinstance(text, str):
        return {}
    try:
        parsed = jsontext.loads(text.encode("utf-8", "surrogatepass"))
        usable = isinstance(parsed, dict) and len(jsontext.ascii_text(parsed)) <= MAX_TEXT_LENGTH
    except (ValueError, RecursionError):
        return {}
    return parsed if usable else {}
