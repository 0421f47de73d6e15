"""The session id of a client that claims none, derived from what never changes in a conversation."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from floway_codex.identity import uuids
from floway_core.protocol import jsontext
from floway_core.protocol.items import COMPACTIONS, usual_form

SEPARATOR = b"\x01"
"""A byte that never occurs in JSON, so the two parts around it cannot be confused."""


def derive_session_id(api_key_id: str, model: str, instructions: Any, items: Sequence[Mapping[str, Any]]) -> str | None:
    """Derive a session id from the API key, the model, the instructions and the seed, whatever equivalent form the
    items have.

    :param model: the model by the name that the upstream uses.
    :param items: all input items.
    :returns: a UUIDv7 whose time is that of the API key, less up to a day; None for an empty input.
    """
    if not items:
        return None
    scope = [api_key_id, model, instructions if isinstance(instructions, str) else ""]
    seed_items = [usual_form(dict(item)) for item in select_seed(items)]
    digest = hashlib.sha256(jsontext.canonical(scope) + SEPARATOR + jsontext.canonical(seed_items)).hexdigest()
    return uuids.derive_uuid7(digest, _created_at(api_key_id))


@functools.lru_cache(maxsize=4096)
def _created_at(api_key_id: str) -> int:
    """When an API key was created, Unix time in milliseconds: its id ends with a UUIDv7."""
    digits = api_key_id.rpartition("_")[2]
    is_uuid7 = len(digits) == 32 and digits[12] == "7" and not digits.strip("0123456789abcdef")
    return int(digits[:12], 16) if is_uuid7 else uuids.LATEST_DERIVED_MS


def session_id_of_hint(api_key_id: str, hint: str) -> str:
    """Derive a session id from what the client says identifies its conversation.

    :returns: a UUIDv7 as that of ``derive_session_id``, which differs for every API key.
    """
    digest = hashlib.sha256(jsontext.canonical([api_key_id, "hint", hint])).hexdigest()
    return uuids.derive_uuid7(digest, _created_at(api_key_id))


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
    return count_compactions(items[len(select_seed(items)) :])


def count_compactions(items: Sequence[Mapping[str, Any]]) -> int:
    """Count the compaction items."""
    types = [item.get("type") for item in items]
    return sum(map(types.count, COMPACTIONS))
