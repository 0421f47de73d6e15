"""Rules over all requests of a session, because a request may look right alone and still not be one of the CLI.

A violation is not refused, because the real backend's reaction is unknown. It is listed as a finding.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .fingerprint import json_object
from .recording import RecordedRequest

JSON = Any

TURN_STATE = "x-codex-turn-state"
COMPACTIONS = ("compaction", "compaction_summary")
# What clients drop or change when they send an item again.
INCIDENTAL_KEYS = {"id", "status", "annotations", "logprobs", "internal_chat_message_metadata_passthrough"}


@dataclass(frozen=True)
class ObservedDispatch:
    """One dispatch that passed the checks."""

    account: str
    session: str
    thread: str
    window: int
    turn: str
    started: JSON
    installation: str
    state: str | None
    items: tuple[str, ...]
    """A digest of each input item, without incidental keys."""
    compactions: tuple[str, ...]
    """The encrypted contents of the compaction items in the input."""


@dataclass
class Turn:
    """What all dispatches of a turn have in common."""

    thread: str
    started: JSON
    states: dict[str, str | None] = field(default_factory=dict)
    """By account: the first turn state that was sent."""


@dataclass
class Consistency:
    """The dispatches so far, and the findings about them."""

    findings: list[str] = field(default_factory=list)
    _turns: dict[str, Turn] = field(default_factory=dict)
    _installations: dict[tuple[str, str], str] = field(default_factory=dict)
    _lines: dict[str, list[tuple[ObservedDispatch, frozenset[str]]]] = field(default_factory=dict)
    """By thread: each dispatch, and the earlier turns that led to it."""
    _compacted: dict[str, ObservedDispatch] = field(default_factory=dict)
    """By encrypted content: the dispatch whose response held this compaction."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, request: RecordedRequest, account: str) -> ObservedDispatch:
        """Compare a dispatch that passed the checks with the earlier ones."""
        seen = observe(request, account)
        with self._lock:
            self.findings += [f"request {request.n}: {finding}" for finding in self._check_dispatch(seen)]
            self._turns.setdefault(seen.turn, Turn(seen.thread, seen.started))
            self._installations.setdefault((account, seen.session), seen.installation)
            self._lines.setdefault(seen.thread, []).append((seen, self._earlier_turns(seen)))
        return seen

    def note_response(self, seen: ObservedDispatch, state: str | None, output: list[JSON]) -> None:
        """Note the turn state and the compactions in the response to a dispatch."""
        with self._lock:
            states = self._turns[seen.turn].states
            states[seen.account] = states.get(seen.account) or state
            for item in output:
                if item.get("type") in COMPACTIONS:
                    self._compacted[item["encrypted_content"]] = seen

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for memory in (self.findings, self._turns, self._installations, self._lines, self._compacted):
                memory.clear()

    # ------------------------------------------------------------------------------------------------------- rules
    def _check_dispatch(self, seen: ObservedDispatch) -> Iterator[str]:
        if self._installations.get((seen.account, seen.session), seen.installation) != seen.installation:
            yield "installation_id: another one than earlier in the session"
        yield from self._check_turn(seen)
        before = self._find_previous(seen)
        if before and seen.window < min(earlier.window for earlier, _ in before):
            yield "x-codex-window-id: the number went back"
        for content in seen.compactions:
            compacted = self._compacted.get(content)
            if compacted and compacted.thread == seen.thread and seen.window <= compacted.window:
                yield "x-codex-window-id: the number did not advance after the compaction"
        if before and all(seen.turn in turns and seen.turn != earlier.turn for earlier, turns in before):
            yield "turn_id: of a turn that another one has followed"

    def _check_turn(self, seen: ObservedDispatch) -> Iterator[str]:
        turn = self._turns.get(seen.turn, Turn(seen.thread, seen.started))
        if turn.thread != seen.thread:
            yield "turn_id: of another thread's turn"
        if turn.started != seen.started:
            yield "turn_started_at_unix_ms: the turn began at another time"
        expected = turn.states.get(seen.account)
        if seen.state != expected:
            yield f"{TURN_STATE}: {'not sent back' if seen.state is None else 'not the first one of this turn'}"

    def _find_previous(self, seen: ObservedDispatch) -> list[tuple[ObservedDispatch, frozenset[str]]]:
        """The dispatches of the thread that this one continues: those with the longest input that it repeats."""
        led = [(earlier, turns) for earlier, turns in self._lines.get(seen.thread, []) if precedes(earlier, seen)]
        longest = max((len(earlier.items) for earlier, _ in led), default=0)
        return [(earlier, turns) for earlier, turns in led if len(earlier.items) == longest]

    def _earlier_turns(self, seen: ObservedDispatch) -> frozenset[str]:
        before = self._find_previous(seen)
        return frozenset[str]().union(*(turns | {earlier.turn} for earlier, turns in before)) - {seen.turn}


def precedes(earlier: ObservedDispatch, later: ObservedDispatch) -> bool:
    """True when the input of one dispatch is the beginning of the other's."""
    count = len(earlier.items)
    return 0 < count < len(later.items) and later.items[:count] == earlier.items


def observe(request: RecordedRequest, account: str) -> ObservedDispatch:
    """A dispatch whose headers and body have passed the fingerprint's checks."""
    metadata = json_object(request.header("x-codex-turn-metadata") or "") or {}
    window = re.search(r"(\d+)$", request.header("x-codex-window-id") or "")
    items = [item for item in request.body["input"] if item.get("type") != "compaction_trigger"]
    return ObservedDispatch(
        account=account,
        session=request.header("session-id") or "",
        thread=request.header("thread-id") or "",
        window=int(window[1]) if window else 0,
        turn=metadata["turn_id"],
        started=metadata.get("turn_started_at_unix_ms"),
        installation=metadata["installation_id"],
        state=request.header(TURN_STATE),
        items=tuple(map(digest, items)),
        compactions=tuple(str(item.get("encrypted_content")) for item in items if item.get("type") in COMPACTIONS),
    )


def digest(item: JSON) -> str:
    """A digest of an item that is the same however a client sends it again."""
    return hashlib.sha256(json.dumps(without_incidentals(item), sort_keys=True).encode()).hexdigest()


def without_incidentals(value: JSON) -> JSON:
    """A value without incidental keys and empty parts."""
    if isinstance(value, dict):
        return {
            key: without_incidentals(part)
            for key, part in value.items()
            if key not in INCIDENTAL_KEYS and part not in (None, [])
        }
    return [without_incidentals(part) for part in value] if isinstance(value, list) else value
