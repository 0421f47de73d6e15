"""The values that pass between the store and the engine."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from floway_core.protocol import items


@dataclass
class History:
    """Items of a conversation, in order. Nobody changes them."""

    items: list[dict[str, Any]] = field(default_factory=list)
    issuers: list[str | None] = field(default_factory=list)
    """For each item the id of the upstream that issued it; None for what the client or the gateway made."""

    @functools.cached_property
    def kinds(self) -> frozenset[str]:
        """The types that occur among the items."""
        return frozenset(kind for item in self.items if isinstance(kind := item.get("type"), str))


@dataclass(frozen=True)
class Snapshot:
    """A stored snapshot, without its items."""

    row: int
    conversation: int
    response_id: str
    depth: int
    history_hash: str
    used_at: int
    """When its conversation was last used, Unix seconds; see ``Conversations.used_at``."""
    metadata: Mapping[str, Mapping[str, Any]]
    """For each plugin its metadata."""


@dataclass(frozen=True)
class Turn:
    """One request as far as the conversation is concerned."""

    api_key_id: str
    response_id: str
    """The id of the response to come, as the client will know it."""
    store: bool
    previous: Snapshot | None
    """What the turn continues, named by the client or recognised in what it sent."""
    explicit_previous: bool
    """Whether the client named it in ``previous_response_id``."""
    input: History
    """Everything the model is to see."""
    new_items: list[dict[str, Any]] = field(default_factory=list)
    """The part of ``input`` that is not in the history of ``previous``."""
    history_hash: str | None = None
    """The hash of the history from its beginning to the end of ``added``: of all that was sent, whatever of it had been
    stored before. None for a turn that names what it continues, and one that is not stored."""

    def as_root(self) -> "Turn":
        """The same, as the beginning of a conversation of its own: the client has sent all that it needs."""
        return dataclasses.replace(self, previous=None, new_items=items.without_triggers(self.input.items))

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields of the response object that only the gateway knows."""
        known: dict[str, Any] = {"id": self.response_id}
        if self.store:
            known["store"] = True
        if self.explicit_previous and self.previous:
            known["previous_response_id"] = self.previous.response_id
        return known
