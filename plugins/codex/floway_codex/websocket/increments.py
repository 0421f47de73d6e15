"""Find the part of an input that a connection has not carried yet, from its last request and the response to it."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_codex.wire.input_state import InputState
from floway_codex.wire.items import ITEM_METADATA
from floway_core.protocol import jsontext

NOT_COMPARED = frozenset({"input", "client_metadata"})
"""Fields of a body that are new in every request."""
SIGNIFICANT_KEYS = frozenset(
    {"action", "arguments", "call_id", "content", "encrypted_content", "input", "name", "namespace", "output", "role"}
    | {"result", "summary", "text", "type"}
)
"""Keys that make the content of an item. Clients may omit others, such as the id, when they send an item again."""
IGNORED_KEYS = frozenset({"annotations", "id", ITEM_METADATA, "logprobs", "status"})


@dataclass(frozen=True)
class Progress:
    """The last request that was sent over a connection, and the response to it."""

    body: Mapping[str, Any]
    """The request without ``NOT_COMPARED``."""
    texts: tuple[bytes, ...]
    """The whole input as JSON, in parts of some items each, without the brackets."""
    state: InputState
    """After the input."""
    response_id: str
    output: Sequence[Mapping[str, Any]]
    moved: Mapping[str, Any] = field(default_factory=dict)
    """The client's fields that became items at the beginning of the input, as ``request.moved_values``."""
    continued_as: str | None = None
    """The gateway's id of the response, if the history that it ends begins with the input."""
    client_items: int = 0
    """How many items of the client's input the input was made of."""

    @functools.cached_property
    def size(self) -> int:
        """Bytes of the input."""
        return sum(map(len, self.texts))

    def parse_input(self) -> list[Any]:
        """Return the items of the input."""
        items: list[Any] = jsontext.loads(b"[%s]" % b",".join(self.texts))
        return items


@dataclass(frozen=True)
class PreparedInput:
    """The input of one request, as far as the connection of its conversation does not hold it."""

    held: Progress | None = None
    """What the connection holds."""
    state: InputState = field(default_factory=InputState)
    """After the input."""


def find_new_items(
    progress: Progress | None, prepared: PreparedInput, body: Mapping[str, Any], text: bytes
) -> list[Any] | None:
    """Find the items that follow the last input of a connection and its output.

    :param progress: of the connection; None if nothing has been sent over it.
    :param body: the request; its input lacks what ``prepared.held`` stands for.
    :param text: its input as JSON.
    :returns: None if the body does not continue what was sent.
    """
    if progress is None or progress.body != compared_fields(body):
        return None
    items, sent, count = body["input"], 0, len(progress.output)
    if prepared.held is None:
        sent = progress.state.count
        if sent and not text.startswith(b",".join((*progress.texts, b""))):
            return None
    elif prepared.held is not progress:
        return None
    output, new = items[sent : sent + count], items[sent + count :]
    return new if new and all(map(is_resent, progress.output, output)) else None


def compared_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are the same in all requests of a conversation."""
    return {name: value for name, value in body.items() if name not in NOT_COMPARED}


def encode_items(items: Sequence[Any]) -> bytes:
    """Items as JSON, without brackets."""
    return jsontext.dumps(items)[1:-1]


def join_texts(*texts: bytes) -> tuple[bytes, ...]:
    """Return the texts that are not empty."""
    return tuple(filter(None, texts))


def is_resent(output: Any, item: Any) -> bool:
    """Whether an input item is the item ``output`` of a response, sent again."""
    if isinstance(output, dict) and isinstance(item, dict):
        original, resent = _compared(output), _compared(item)
        if not SIGNIFICANT_KEYS.isdisjoint(original.keys() - resent.keys()):
            return False
        return all(name in original and is_resent(original[name], value) for name, value in resent.items())
    if isinstance(output, list) and isinstance(item, list):
        return len(output) == len(item) and all(map(is_resent, output, item))
    return type(output) is type(item) and bool(output == item)


def _compared(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in IGNORED_KEYS and value not in (None, [])}
