"""Who a request comes from, in the backend's words: session, thread, turn, window, installation.

Resolved once per attempt, so that every dispatch of it says the same. What the client states is taken where it is well
formed; what it does not state comes from the response that it continues, else from what it says, else it is made up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uuid6 import uuid7

from floway_codex.identity import sessions, turns
from floway_codex.identity.claims import Said, Stated
from floway_codex.identity.snapshot import Kept
from floway_codex.identity.uuids import is_uuid4
from floway_codex.identity.windows import context_window_id, window_number

PREVIOUS = "previous response"


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
    """When the turn began, Unix time in milliseconds."""
    turn_metadata: Mapping[str, Any]
    """The client's turn metadata as it came; ids in it may contradict the ones above, which win."""
    client_metadata: Mapping[str, str]
    """The client's ``client_metadata``, its texts only; the same goes for it."""
    rules: Mapping[str, str]
    """For each id that has several sources, which one it was."""

    @property
    def window_number(self) -> int:
        number = window_number(self.window, self.thread)
        assert number is not None  # resolve() makes no others
        return number

    def values(self) -> dict[str, Any]:
        """The placeholders of a profile that stand for these ids."""
        return {
            "session_id": self.session,
            "thread_id": self.thread,
            "client_request_id": self.client_request,
            "window_id": self.window,
            "window_number": self.window_number,
            "context_window_id": self.context_window,
            "turn_id": self.turn,
            "root_turn_id": self.root_turn,
            "parent_turn_id": self.parent_turn,
            "parent_thread_id": self.parent_thread,
            "subagent": self.subagent,
            "installation_id": self.installation,
            "turn_started_at_unix_ms": self.started_ms,
        }


@dataclass(frozen=True)
class Request:
    """What an identity is resolved from."""

    said: Said
    api_key_id: str
    instructions: Any
    input: Sequence[Mapping[str, Any]]
    """Everything the model is to see."""
    new_items: Sequence[Mapping[str, Any]]
    """The part of ``input`` that is not in the history of the response that it continues."""
    kept: Kept | None
    """The identity of the response that it continues, if it continues one of this plugin's."""
    ordinal: Callable[[], int]
    """Claims its place among all that continue this response, from 1."""
    new_window: Callable[[str, int], int]
    """Claims a number for a new window of the conversation that began with a response, above another number."""
    installation: str
    """The account's."""
    now_ms: int
    """Unix time in milliseconds."""


def resolve(request: Request) -> Identity:
    """The identity of an attempt. May write to the database: a window is claimed where a conversation forks."""
    said, kept = request.said, request.kept
    its_session = _session(request)
    thread = _thread(request, its_session.value)
    window = _window(request, thread.value)
    turn = _turn(request, thread.value)
    installation = said.find("installation", is_uuid4) or Stated(request.installation, "account")
    client_request = said.find("client_request") or Stated(thread.value, "thread")
    goes_on = kept is not None and kept.turn == turn.value
    found = {
        "session": its_session,
        "thread": thread,
        "client_request": client_request,
        "window": window,
        "turn": turn,
        "installation": installation,
    }
    others = {name: said.find(name) for name in ("root_turn", "parent_turn", "parent_thread", "subagent")}
    context_window = said.find("context_window")
    return Identity(
        **{name: stated.value for name, stated in found.items()},
        **{name: stated and stated.value for name, stated in others.items()},
        context_window=context_window.value if context_window else context_window_id(window.value, thread.value),
        started_ms=kept.started_ms if kept and goes_on else request.now_ms,
        turn_metadata=said.turn_metadata,
        client_metadata=said.client_metadata,
        rules={name: stated.place for name, stated in found.items()},
    )


def _session(request: Request) -> Stated:
    if stated := request.said.find("session"):
        return stated
    if request.kept:
        return Stated(request.kept.session, PREVIOUS)
    if derived := sessions.derived(request.api_key_id, request.instructions, request.input):
        return Stated(derived, "beginning of the conversation")
    return Stated(str(uuid7()), "new")


def _thread(request: Request, its_session: str) -> Stated:
    if stated := request.said.find("thread"):
        return stated
    if request.kept and request.kept.session == its_session:
        return Stated(request.kept.thread, PREVIOUS)
    return Stated(its_session, "session")


def _window(request: Request, thread: str) -> Stated:
    """A client that counts windows itself is believed. Else the first continuation of a response stays in its window,
    and every later one is a fork, which gets a window of its own."""
    if stated := request.said.find("window", lambda value: window_number(value, thread) is not None):
        return stated
    kept = request.kept
    if kept is None or kept.thread != thread:
        number = sessions.compactions_behind_seed(request.input)
        return Stated(f"{thread}:{number}", "compactions in the input" if number else "thread")
    if request.ordinal() == 1:
        return Stated(f"{thread}:{kept.window}", PREVIOUS)
    return Stated(f"{thread}:{request.new_window(kept.first_response, kept.window)}", f"fork of the {PREVIOUS}")


def _turn(request: Request, thread: str) -> Stated:
    if stated := request.said.find("turn"):
        return stated
    if request.kept and request.kept.thread == thread and turns.answers_calls(request.input, request.new_items):
        return Stated(request.kept.turn, f"{PREVIOUS}, whose tool calls are answered")
    return Stated(str(uuid7()), "new")
