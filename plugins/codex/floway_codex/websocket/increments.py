"""Which part of an input is new to a connection: it knows what was sent over it last, and what came back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NOT_COMPARED = frozenset({"input", "client_metadata"})
"""Fields of a body that are new in every request."""
MEANING = frozenset(
    {"action", "arguments", "call_id", "content", "encrypted_content", "input", "name", "namespace", "output", "role"}
    | {"result", "summary", "text", "type"}
)
"""Keys without which an item would not say the same. Clients leave out others, such as the id, when they send an item
again."""
INCIDENTAL = frozenset({"annotations", "id", "internal_chat_message_metadata_passthrough", "logprobs", "status"})


@dataclass(frozen=True)
class Progress:
    """What a connection has sent last, and the response to it."""

    body: Mapping[str, Any]
    """With the whole input. Texts in it are shared with the history that the gateway has in memory, if any, so that
    comparing them takes no time."""
    response_id: str
    output: Sequence[Mapping[str, Any]]
    size: int
    """About the bytes of the input."""


def find_new_items(progress: Progress | None, body: Mapping[str, Any]) -> list[Any] | None:
    """Find the items of ``body`` that follow the last input of a connection and its output.

    :param progress: of the connection; None if nothing has been sent over it.
    :returns: None if the body does not continue what was sent.
    """
    if progress is None or _compared(progress.body) != _compared(body):
        return None
    items, sent = body["input"], progress.body["input"]
    known = len(sent) + len(progress.output)
    if len(items) <= known or items[: len(sent)] != sent:
        return None
    return items[known:] if all(map(is_resent, progress.output, items[len(sent) : known])) else None


def _compared(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in NOT_COMPARED}


def is_resent(output: Any, item: Any) -> bool:
    """Whether an input item is ``output``, an item of a response, sent again."""
    if isinstance(output, dict) and isinstance(item, dict):
        there, here = _meaningful(output), _meaningful(item)
        return all(name in there and is_resent(there[name], value) for name, value in here.items()) and not (
            (there.keys() - here.keys()) & MEANING
        )
    if isinstance(output, list) and isinstance(item, list):
        return len(output) == len(item) and all(map(is_resent, output, item))
    return type(output) is type(item) and bool(output == item)


def _meaningful(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in INCIDENTAL and value not in (None, [])}
