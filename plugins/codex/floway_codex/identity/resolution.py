"""The identity of a request: session, thread, turn, window and installation.

It is resolved once per attempt, so all dispatches of an attempt have the same identity. A well-formed id that the
client claims wins. Without one, the id comes from the continued response, is derived from the input, or is new.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from floway_codex.identity import sessions, turns, uuids
from floway_codex.identity.claims import Claim, ClaimedIds
from floway_codex.identity.snapshot import StoredIdentity
from floway_codex.identity.uuids import is_uuid4
from floway_codex.identity.windows import derive_context_window_id, parse_window_number

PREVIOUS, BEGINNING = "previous response", "beginning of the conversation"
CLAIMED_ONLY = ("root_turn", "parent_turn", "parent_thread", "subagent", "context_window")
"""Ids for which only the claim of a client counts, but for the default of the last one."""


class Identity(NamedTuple):
    """The ids of one attempt, and the metadata that the client sent beside its ids."""

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
    """The client's turn metadata, unchanged. The ids above override those in it."""
    client_metadata: Mapping[str, str]
    """The text values of the client's ``client_metadata``. The ids above override those in it."""
    rules: Mapping[str, str]
    """The source of each id."""
    window_number: int
    """The number of the window in its thread."""

    def placeholders(self) -> dict[str, Any]:
        """The values for the placeholders of a profile that stand for these ids."""
        return {
            "session_id": self.session,
            "thread_id": self.thread,
            "client_request_id": self.client_request,
            "window_id": self.window,
            "window_number": self.window_number,
            "context_window_id": self.context_window,
            "turn_id": self.turn,
            "root_turn_id": self.root_turn or self.turn,
            "parent_turn_id": self.parent_turn,
            "parent_thread_id": self.parent_thread,
            "subagent": self.subagent,
            "installation_id": self.installation,
            "turn_started_at_unix_ms": self.started_ms,
        }


class IdentityInputs(NamedTuple):
    """The inputs of ``resolve_identity``."""

    claims: ClaimedIds
    api_key_id: str
    model: str
    """The model by the name that the upstream uses."""
    instructions: Any
    input: Sequence[Mapping[str, Any]]
    """All input items, the history included."""
    new_items: Sequence[Mapping[str, Any]]
    """The items of ``input`` that are not in the history of the continued response."""
    stored: StoredIdentity | None
    """The identity of the continued response; None if there is none, or if another plugin served it."""
    claim_ordinal: Callable[[], int]
    """Reserves the request's position among all continuations of the response, from 1."""
    claim_window: Callable[[str, int], int]
    """Reserves a window number: takes the id of the conversation's first response and a number to exceed."""
    installation: str
    """The installation id of the account."""
    now_ms: int
    """Unix time in milliseconds."""
    hint: str | None = None
    """What the client says identifies its conversation (``ClientRequest.conversation_hint``)."""


def resolve_identity(inputs: IdentityInputs) -> Identity:
    """Resolve the identity of an attempt. Writes to the database when the conversation forks: it reserves a window."""
    claims, stored = inputs.claims, inputs.stored
    session = _resolve_session(inputs)
    thread = _resolve_thread(inputs, session.value)
    is_derived = session.source == BEGINNING and thread.value == session.value
    window, number = _resolve_window(inputs, thread.value, is_derived=is_derived)
    turn = _resolve_turn(inputs, thread.value)
    installation = claims.find("installation", is_uuid4) or Claim(inputs.installation, "account")
    client_request = claims.find("client_request") or Claim(thread.value, "thread")
    others = claims.find_values(CLAIMED_ONLY)
    is_same_turn = stored is not None and stored.turn == turn.value
    return Identity(
        session=session.value,
        thread=thread.value,
        client_request=client_request.value,
        window=window.value,
        turn=turn.value,
        installation=installation.value,
        root_turn=others["root_turn"],
        parent_turn=others["parent_turn"],
        parent_thread=others["parent_thread"],
        subagent=others["subagent"],
        context_window=others["context_window"] or derive_context_window_id(window.value, thread.value),
        started_ms=stored.started_ms if stored and is_same_turn else inputs.now_ms,
        turn_metadata=claims.turn_metadata,
        client_metadata=claims.client_metadata,
        rules={
            "session": session.source,
            "thread": thread.source,
            "client_request": client_request.source,
            "window": window.source,
            "turn": turn.source,
            "installation": installation.source,
        },
        window_number=number,
    )


def _resolve_session(inputs: IdentityInputs) -> Claim:
    if claim := inputs.claims.find("session"):
        return claim
    if inputs.hint:  # before the stored one: two conversations may begin alike
        return Claim(sessions.session_id_of_hint(inputs.api_key_id, inputs.hint), "conversation of the client")
    if inputs.stored:
        return Claim(inputs.stored.session, PREVIOUS)
    if derived := sessions.derive_session_id(inputs.api_key_id, inputs.model, inputs.instructions, inputs.input):
        return Claim(derived, BEGINNING)
    return Claim(uuids.new_uuid7(), "new")


def _resolve_thread(inputs: IdentityInputs, session: str) -> Claim:
    if claim := inputs.claims.find("thread"):
        return claim
    if inputs.stored and inputs.stored.session == session:
        return Claim(inputs.stored.thread, PREVIOUS)
    return Claim(session, "session")


def _resolve_window(inputs: IdentityInputs, thread: str, *, is_derived: bool) -> tuple[Claim, int]:
    """Prefer a well-formed window of the client. Otherwise the first continuation of a response stays in its window,
    and each later one is a fork and gets a new window.

    :param is_derived: whether the thread is derived from the seed. Then a compaction that begins the input has begun
        another thread, else only another window.
    """
    if claim := inputs.claims.find("window", lambda value: parse_window_number(value, thread) is not None):
        return claim, parse_window_number(claim.value, thread) or 0
    stored = inputs.stored
    if stored is None or stored.thread != thread:
        count = sessions.count_compactions_after_seed if is_derived else sessions.count_compactions
        number = count(inputs.input)
        source = "compactions in the input" if number else "thread"
    elif inputs.claim_ordinal() == 1:
        number, source = stored.window, PREVIOUS
    else:
        number, source = inputs.claim_window(stored.first_response, stored.window), f"fork of the {PREVIOUS}"
    return Claim(f"{thread}:{number}", source), number


def _resolve_turn(inputs: IdentityInputs, thread: str) -> Claim:
    if claim := inputs.claims.find("turn"):
        return claim
    if inputs.stored and inputs.stored.thread == thread and turns.answers_calls(inputs.input, inputs.new_items):
        return Claim(inputs.stored.turn, f"{PREVIOUS}, whose tool calls are answered")
    return Claim(uuids.new_uuid7(), "new")
