"""Hash histories in the form of clients that keep only texts and tool calls, without reasoning, ids and hosted tools.

Such a client sends a turn of the model as one text and a list of calls. Two histories with equal hashes are the same
for it, so a stored history can replace the one that it sends.
"""

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.protocol import jsontext
from floway_core.protocol.items import TRIGGER, usual_form

UNGUESSABLE_ID_LENGTH = 16
"""Characters of a call id that no other conversation is likely to have. Some upstreams count from 0."""


def is_client_item(item: Mapping[str, Any]) -> bool:
    """Return whether only clients create items of this type: messages but the model's, and outputs of tools."""
    kind = str(item.get("type", "message"))
    return kind.endswith("_output") or (kind == "message" and item.get("role") != "assistant")


@dataclass
class _ModelTurn:
    """The visible parts of consecutive items of the model."""

    texts: list[str] = field(default_factory=list)
    calls: list[list[Any]] = field(default_factory=list)
    """Id, name and arguments of each."""

    def add(self, item: Mapping[str, Any]) -> None:
        kind = item.get("type")
        if item.get("role") == "assistant":
            self.texts += _texts(item.get("content"))
        elif kind == "function_call":
            self.calls.append([item.get("call_id"), item.get("name"), _parsed(item.get("arguments"))])
        elif kind == "custom_tool_call":
            self.calls.append([item.get("call_id"), item.get("name"), item.get("input")])

    @property
    def is_visible(self) -> bool:
        return bool(self.texts or self.calls)

    def form(self) -> list[Any]:
        """Return the normal form. Clients drop white space around texts, and may re-encode the arguments of calls."""
        return ["".join(self.texts).strip(), self.calls]


class VisibleHistory:
    """Hashes a history while its items are added."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"visible history").hexdigest()
        self._turn = _ModelTurn()
        self._first_message: bytes | None = None
        """The first message of the user, which distinguishes conversations."""

    def copy(self) -> "VisibleHistory":
        """Return an independent copy, to continue it."""
        return copy.deepcopy(self)

    def add(self, item: Mapping[str, Any]) -> None:
        """Add an item."""
        if item.get("type") == TRIGGER:
            return
        if not is_client_item(item):
            self._turn.add(item)
            return
        self._hash, self._turn = self.digest(), _ModelTurn()
        form = jsontext.canonical(usual_form(dict(item)))
        if self._first_message is None and item.get("role") == "user":
            self._first_message = form
        self._hash = _extended(self._hash, form)

    def digest(self) -> str:
        """Return the hash of the history so far, in hex."""
        if not self._turn.is_visible:
            return self._hash
        return _extended(self._hash, jsontext.canonical(self._turn.form()))

    def turn_digest(self) -> str | None:
        """Return a hash that identifies the last turn of the model at any position in the conversation.

        Clients shorten old outputs of tools or change their instructions, and then no longer send the history before
        the turn as it was. The ids of the calls and the first message of the user identify it in spite of that.

        :returns: None if nothing in the turn identifies it.
        """
        ids = [call[0] for call in self._turn.calls]
        if not ids or self._first_message is None:
            return None
        if not all(isinstance(call_id, str) and len(call_id) >= UNGUESSABLE_ID_LENGTH for call_id in ids):
            return None
        start = hashlib.sha256(b"turn\n" + self._first_message).hexdigest()
        return _extended(start, jsontext.canonical(self._turn.form()))


@dataclass(frozen=True)
class TurnEnd:
    """The end of a turn of the model in a history."""

    start: int
    """Position of its first item."""
    end: int
    """Position after its last item."""
    digest: str
    """The hash of the history up to ``end``."""
    turn_digest: str | None


def find_turns(items: Sequence[Mapping[str, Any]]) -> tuple[list[TurnEnd], VisibleHistory]:
    """Find the turns of the model in a history.

    :returns: the turns, and the whole history, to be continued.
    """
    history, turns, start = VisibleHistory(), [], 0
    for position, item in enumerate(items):
        if is_client_item(item):
            start = position + 1
        history.add(item)
        ends = position + 1 == len(items) or is_client_item(items[position + 1])
        if start <= position and ends and history._turn.is_visible:
            turns.append(TurnEnd(start, position + 1, history.digest(), history.turn_digest()))
    return turns, history


def continued(history: VisibleHistory, items: Iterable[Mapping[str, Any]]) -> VisibleHistory:
    """Return the history with further items at its end."""
    result = history.copy()
    for item in items:
        result.add(item)
    return result


def _extended(previous: str, form: bytes) -> str:
    return hashlib.sha256(f"{previous}\n".encode() + form).hexdigest()


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    values = [part.get("text") if part.get("text") is not None else part.get("refusal") for part in parts]
    return [value for value in values if isinstance(value, str)]


def _parsed(arguments: Any) -> Any:
    """Return the value of a JSON text; the text itself if it is not JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return [jsontext.loads(arguments.encode("utf-8", "surrogatepass"))]
    except ValueError:
        return arguments
