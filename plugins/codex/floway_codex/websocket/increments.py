"""Which part of an input is new to a connection: it knows what was sent over it last, and what came back.

Of what was sent only digests are kept, because a connection may be idle for long.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.protocol import jsontext

DIGEST_BYTES = 16
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
class BodyDigests:
    """The digests of a body: of its input, and of all other fields that matter."""

    fields: bytes
    count: int
    """The number of input items."""
    items: bytes


@dataclass(frozen=True)
class Progress:
    """What a connection has sent last, and the response to it."""

    sent: BodyDigests
    response_id: str
    output: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Increment:
    """What a body adds to the last one of a connection."""

    new_items: Sequence[Any] | None
    """The items that follow the last input and its output; None if the body does not continue these."""
    digests: BodyDigests
    """Of the whole body."""


def find_increment(progress: Progress | None, body: Mapping[str, Any]) -> Increment:
    """Find what ``body`` adds. Its input is serialised once.

    :param progress: of the connection; None if nothing has been sent over it.
    :raises ValueError: the body is not JSON.
    """
    items = body["input"]
    fields = digest_fields(body)
    sent = progress.sent.count if progress and len(items) >= progress.sent.count else 0
    digest = hashlib.blake2b(jsontext.dumps(items[:sent])[1:-1], digest_size=DIGEST_BYTES)
    begins_alike = progress is not None and digest.digest() == progress.sent.items and fields == progress.sent.fields
    digest.update(b"," if sent and items[sent:] else b"")
    digest.update(jsontext.dumps(items[sent:])[1:-1])
    digests = BodyDigests(fields, len(items), digest.digest())
    if progress is None or not begins_alike:
        return Increment(None, digests)
    known = sent + len(progress.output)
    continues = len(items) > known and all(map(is_resent, progress.output, items[sent:known]))
    return Increment(items[known:] if continues else None, digests)


def digest_fields(body: Mapping[str, Any]) -> bytes:
    """A digest of everything in ``body`` that stays the same within a conversation."""
    fields = {name: value for name, value in body.items() if name not in NOT_COMPARED}
    return hashlib.blake2b(jsontext.dumps(fields), digest_size=DIGEST_BYTES).digest()


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
