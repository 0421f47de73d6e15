"""The records that conversation and engine exchange: history, snapshot, conversation, turn."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.protocol import items
from floway_core.protocol.visible_history import VisibleHistory


@dataclass
class History:
    """Items of a conversation, in order. Do not change the items."""

    items: list[dict[str, Any]] = field(default_factory=list)
    issuers: list[str | None] = field(default_factory=list)
    """For each item the id of the upstream that issued it; None if the client or the gateway created it."""
    text_bytes: int = 0
    """Bytes of the items as JSON, for a history that comes from the store."""

    @functools.cached_property
    def kinds(self) -> frozenset[str]:
        """The types of the items."""
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
    """When its conversation was last used, in Unix seconds; see ``Conversations.used_at``."""
    metadata: Mapping[str, Mapping[str, Any]]
    """Metadata by plugin."""
    history_bytes: int | None = None
    """Bytes of its whole history as JSON; None if an older version of Floway stored it."""


@dataclass(frozen=True)
class Conversation:
    """A conversation that a client has created, to continue it by its id."""

    conversation: int
    """Its row id."""
    id: str
    created_at: int
    """Unix time in seconds."""
    metadata: Mapping[str, Any]
    """The client's."""
    used_at: int
    """When it was last used, in Unix seconds; see ``Conversations.used_at``."""
    head: int | None
    """Row id of the snapshot that the next turn continues; None for an empty conversation."""


@dataclass(frozen=True)
class StoreLimits:
    """The limits for what a request loads and stores."""

    input_bytes: int
    """Largest size of the history that it continues and of the items that it refers to, as JSON."""
    stored_bytes: int = 0
    """Largest size of all conversations of its key; 0: no limit."""


@dataclass(frozen=True)
class Turn:
    """One request in its conversation: the history that it continues, and the items that it adds."""

    api_key_id: str
    response_id: str
    """The id of the future response."""
    store: bool
    """Whether the response can be read and continued by its id."""
    previous: Snapshot | None
    """The snapshot that the turn continues: the client named it, or its history was recognised in the input."""
    explicit_previous: bool
    """Whether the client named it, by ``previous_response_id`` or ``conversation``."""
    input: History
    """The whole input of the model, with the stored history."""
    new_items: list[dict[str, Any]] = field(default_factory=list)
    """The part of ``input`` that is not in the history of ``previous``."""
    history_hash: str | None = None
    """The hash of the whole input, if the client sent the history itself. None for a turn with ``explicit_previous``,
    for a turn that is not stored, and for a turn whose history was restored."""
    visible: VisibleHistory | None = None
    """The whole input as the client sees it, if the client drops the reasoning and the turn is stored."""
    continued_id: str | None = None
    """The ``previous_response_id`` of the request."""
    remember: Callable[[Sequence[dict[str, Any]], str | None], None] | None = None
    """Keeps the response for the rest of the client's connection, if it is not stored: takes its output items and the
    id of the upstream that issued them. None if the connection keeps nothing."""
    conversation: Conversation | None = None
    """The conversation with an id to which the turn adds its items."""
    is_background: bool = False
    """Whether the response is created in the background."""

    @property
    def is_stored(self) -> bool:
        """Whether the items of the turn are stored, perhaps only as a part of its conversation."""
        return self.store or self.conversation is not None

    def as_root(self) -> "Turn":
        """Return the turn as the start of a new conversation. Only if the client sent the whole history."""
        return dataclasses.replace(self, previous=None, new_items=items.without_triggers(self.input.items))

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields of the response object that the gateway sets itself."""
        overrides: dict[str, Any] = {"id": self.response_id}
        if self.store:
            overrides["store"] = True
        if self.is_background:
            overrides["background"] = True
        if self.conversation:
            overrides["conversation"] = {"id": self.conversation.id}
        elif self.continued_id is not None:
            overrides["previous_response_id"] = self.continued_id
        return overrides
