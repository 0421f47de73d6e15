"""The session id of a client that claims none, derived from what never changes in a conversation."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from floway_codex.identity import uuids
from floway_core.protocol import jsontext
from floway_core.protocol.items import COMPACTIONS, usual_form

SEPARATOR = b"\x01"
"""A byte that never occurs in JSON, so the two parts around it cannot be confused."""


def derive_session_id(api_key_id: str, instructions: Any, items: Sequence[Mapping[str, Any]]) -> str | None:
    """Derive a session id from the API key, the instructions and the seed, whatever equivalent form the items have.

    :param items: all input items.
    :returns: an id in the form of a UUIDv4; None for an empty input.
    """
    if not items:
        return None
    scope = [api_key_id, instructions if isinstance(instructions, str) else ""]
    seed_items = [usual_form(dict(item)) for item in select_seed(items)]
    digest = hashlib.sha256(jsontext.canonical(scope) + SEPARATOR + jsontext.canonical(seed_items)).hexdigest()
    return uuids.format_uuid(digest, 4)


def session_id_of_hint(api_key_id: str, hint: str) -> str:
    """Derive a session id from what the client says identifies its conversation.

    :returns: an id in the form of a UUIDv4, which differs for every API key.
    """
    digest = hashlib.sha256(jsontext.canonical([api_key_id, "hint", hint])).hexdigest()
    return uuids.format_uuid(digest, 4)


def select_seed(items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The items that a session id is derived from: up to the first user message or the first compaction, inclusive.

    They stay the same while the conversation continues. An input without either has its first item as the seed.
    """
    for count, item in enumerate(items, 1):
        if item.get("role") == "user" or item.get("type") in COMPACTIONS:
            return items[:count]
    return items[:1]


def count_compactions_after_seed(items: Sequence[Mapping[str, Any]]) -> int:
    """Count the compaction items after the seed: each of them began a new window."""
    return sum(item.get("type") in COMPACTIONS for item in items[len(select_seed(items)) :])
