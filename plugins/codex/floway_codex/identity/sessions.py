"""The session of a client that names none: derived from what does not change while a conversation goes on."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from floway_codex.identity import uuids
from floway_core.protocol import jsontext
from floway_core.protocol.items import COMPACTIONS, usual_form

SEPARATOR = b"\x01"
"""JSON never holds this byte, so what is on its two sides cannot be mixed up."""


def derived(api_key_id: str, instructions: Any, items: Sequence[Mapping[str, Any]]) -> str | None:
    """A session id that is the same whenever the same API key sends the same beginning, in whatever spelling.

    :param items: the whole input.
    :returns: in the form of a UUIDv4; None when the input is empty.
    """
    if not items:
        return None
    scope = [api_key_id, instructions if isinstance(instructions, str) else ""]
    beginning = [usual_form(dict(item)) for item in seed(items)]
    digest = hashlib.sha256(jsontext.canonical(scope) + SEPARATOR + jsontext.canonical(beginning)).hexdigest()
    return uuids.shaped(digest, 4)


def seed(items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The beginning that a session is derived from: up to the first message of the user, or the first compaction.

    Neither changes while the conversation goes on. Without either it is the first item.
    """
    for place, item in enumerate(items, 1):
        if item.get("role") == "user" or item.get("type") in COMPACTIONS:
            return items[:place]
    return items[:1]


def compactions_behind_seed(items: Sequence[Mapping[str, Any]]) -> int:
    """How often the window was renewed since the session began, as far as the input shows it."""
    return sum(item.get("type") in COMPACTIONS for item in items[len(seed(items)) :])
