"""Who a request comes from, in the backend's words: session, thread, turn, window, installation.

Resolved once per attempt, so that every dispatch of it says the same. What the client states is taken where it is well
formed; what it does not state gets a default.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uuid6 import uuid7

from floway_core.protocol import jsontext

LONGEST = 200
TURN_METADATA = "x-codex-turn-metadata"

HEADER, CLIENT, METADATA = "header", "client_metadata", "turn_metadata"

SOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "session": ((HEADER, "session-id"), (HEADER, "session_id"), (CLIENT, "session_id"), (METADATA, "session_id")),
    "thread": ((HEADER, "thread-id"), (CLIENT, "thread_id"), (METADATA, "thread_id")),
    "client_request": ((HEADER, "x-client-request-id"),),
    "window": ((HEADER, "x-codex-window-id"), (CLIENT, "x-codex-window-id"), (METADATA, "window_id")),
    "turn": ((CLIENT, "turn_id"), (METADATA, "turn_id")),
    "root_turn": ((CLIENT, "root_turn_id"), (METADATA, "root_turn_id")),
    "parent_turn": ((CLIENT, "parent_turn_id"), (METADATA, "parent_turn_id")),
    "installation": (
        (HEADER, "x-codex-installation-id"),
        (CLIENT, "x-codex-installation-id"),
        (METADATA, "installation_id"),
    ),
    "parent_thread": (
        (HEADER, "x-codex-parent-thread-id"),
        (CLIENT, "x-codex-parent-thread-id"),
        (METADATA, "parent_thread_id"),
    ),
    "subagent": ((HEADER, "x-openai-subagent"), (CLIENT, "x-openai-subagent")),
    "context_window": ((METADATA, "context_window_id"),),
}
"""Where each id is looked for, in order; the defaults are in ``resolve``."""


@dataclass(frozen=True)
class Identity:
    """The ids of one attempt, and what else the client said in the places where ids are."""

    session: str
    thread: str
    client_request: str
    window: str
    turn: str
    installation: str
    root_turn: str | None
    parent_turn: str | None
    parent_thread: str | None
    subagent: str | None
    context_window: str | None
    started_ms: int
    """When the attempt began, Unix time in milliseconds."""
    turn_metadata: Mapping[str, Any]
    """The client's turn metadata as it came; ids in it may contradict the ones above, which win."""
    client_metadata: Mapping[str, str]
    """The client's ``client_metadata``, its texts only; the same goes for it."""

    def values(self) -> dict[str, Any]:
        """The placeholders of a profile that stand for these ids."""
        return {
            "session_id": self.session,
            "thread_id": self.thread,
            "client_request_id": self.client_request,
            "window_id": self.window,
            "window_number": window_number(self.window, self.thread),
            "context_window_id": self.context_window,
            "turn_id": self.turn,
            "root_turn_id": self.root_turn,
            "parent_turn_id": self.parent_turn,
            "parent_thread_id": self.parent_thread,
            "subagent": self.subagent,
            "installation_id": self.installation,
            "turn_started_at_unix_ms": self.started_ms,
        }


def resolve(headers: Mapping[str, str], body: Mapping[str, Any], installation: str, now_ms: int) -> Identity:
    """The identity of an attempt.

    :param headers: of the client, names in lower case.
    :param body: of the client.
    :param installation: the account's installation id, unless the client states one.
    :param now_ms: Unix time in milliseconds.
    """
    client = body.get("client_metadata")
    client = client if isinstance(client, Mapping) else {}
    metadata = _metadata(headers.get(TURN_METADATA)) or _metadata(client.get(TURN_METADATA)) or {}
    places: Mapping[str, Mapping[str, Any]] = {HEADER: headers, CLIENT: client, METADATA: metadata}

    def stated(name: str) -> str | None:
        found = (well_formed(places[place].get(key)) for place, key in SOURCES[name])
        return next((value for value in found if value), None)

    session = stated("session") or str(uuid7())
    thread = stated("thread") or session
    window = stated("window")
    if window is None or window_number(window, thread) is None:
        window = f"{thread}:0"
    return Identity(
        session=session,
        thread=thread,
        client_request=stated("client_request") or thread,
        window=window,
        turn=stated("turn") or str(uuid7()),
        installation=stated("installation") or installation,
        root_turn=stated("root_turn"),
        parent_turn=stated("parent_turn"),
        parent_thread=stated("parent_thread"),
        subagent=stated("subagent"),
        context_window=stated("context_window") or context_window_id(window, thread),
        started_ms=now_ms,
        turn_metadata=metadata,
        client_metadata={key: value for key, value in client.items() if isinstance(value, str)},
    )


def well_formed(value: Any) -> str | None:
    """``value`` without surrounding blanks, if it is fit for an id and a header: short, printable ASCII. Else None."""
    if not isinstance(value, str):
        return None
    value = value.strip()
    return value if 0 < len(value) <= LONGEST and value.isascii() and value.isprintable() else None


def window_number(window: str, thread: str) -> int | None:
    """The number in ``<thread>:<number>``, or None when ``window`` is no window of ``thread``."""
    number = window.removeprefix(f"{thread}:")
    return int(number) if number != window and re.fullmatch(r"0|[1-9]\d{0,14}", number) else None


def context_window_id(window: str, thread: str) -> str | None:
    """An id for the content of a window: the same for the same window, a UUIDv7 as old as its thread.

    The CLI makes it at random a few milliseconds after the thread (0.169) and keeps it as long as the window.

    :returns: None when the thread's id is no UUID.
    """
    try:
        made = uuid.UUID(thread).int >> 80
    except ValueError:
        return None
    noise = int.from_bytes(hashlib.sha256(window.encode()).digest()[:10], "big")
    rest = noise & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62  # version 7, variant of RFC 9562
    return str(uuid.UUID(int=made << 80 | rest))


def _metadata(text: Any) -> dict[str, Any] | None:
    if not isinstance(text, str):
        return None
    try:
        found = jsontext.loads(text.encode("utf-8", "surrogatepass"))
        jsontext.ascii_text(found)  # it will be written again
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# ---------------------------------------------------------------------------------------------------- Codex clients
@dataclass(frozen=True)
class CodexClient:
    """A codex CLI (or IDE extension, app) in front of the gateway: it goes on under its own name."""

    originator: str
    user_agent: str
    version: str
    beta_features: str | None
    lite: bool

    def values(self) -> dict[str, Any]:
        """The placeholders of a profile that such a client has its own values for."""
        return {
            "originator": self.originator,
            "user_agent": self.user_agent,
            "version": self.version,
            "beta_features": self.beta_features,
        }


def codex_client(headers: Mapping[str, str]) -> CodexClient | None:
    """The Codex client that sent these headers, or None when it was something else.

    It does not send ``version`` to a gateway, but its user agent holds it: ``<originator>/<version> (...``.
    """
    originator, user_agent = (well_formed(headers.get(name)) for name in ("originator", "user-agent"))
    if not originator or not originator.lower().startswith("codex") or not user_agent:
        return None
    found = re.match(r"/(\d+\.\d+\.\d+[^ ]*)", user_agent.removeprefix(originator))
    if not found:
        return None
    return CodexClient(
        originator,
        user_agent,
        found[1],
        well_formed(headers.get("x-codex-beta-features")),
        headers.get("x-openai-internal-codex-responses-lite") == "true",
    )
