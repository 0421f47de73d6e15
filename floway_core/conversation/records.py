"""The records that conversation and engine exchange: history, snapshot, conversation, turn."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from floway_core.conversation.input_limit import reserve_nothing
from floway_core.protocol import items
from floway_core.protocol.items import TRIGGER, item_types
from floway_core.protocol.lazy_items import LazyItems
from floway_core.protocol.visible_history import VisibleHistory


@dataclass(frozen=True)
class ReadyItems:
    """Items that need no change for the upstream that issued them."""

    texts: list[bytes]
    """The items as JSON."""
    ids: Set[str]
    """The ids of those that have one; no two have the same."""


@dataclass
class History:
    """Items of a conversation, in order. Do not change the items."""

    items: Sequence[dict[str, Any]] = field(default_factory=list)
    issuers: Sequence[str | None] = field(default_factory=list)
    """For each item the id of the upstream that issued it; None if the client or the gateway created it."""
    text_bytes: int = 0
    """Bytes of the items as JSON, for a history that comes from the store."""
    known_types: Sequence[str | None] | None = None
    """``types``, for a history whose items are not parsed."""
    ready: ReadyItems | None = field(default=None, compare=False)
    """Its first items, if they come from the cache and need no change."""

    @functools.cached_property
    def types(self) -> Sequence[str | None]:
        """The type of each item."""
        return item_types(self.items) if self.known_types is None else self.known_types

    @functools.cached_property
    def kinds(self) -> frozenset[str]:
        """The types of the items."""
        return frozenset(filter(None, self.types))

    def storable(self) -> Sequence[dict[str, Any]]:
        """Return the items that become part of a stored history."""
        return items.without_triggers(self.items) if TRIGGER in self.kinds else self.items

    def __add__(self, added: "History") -> "History":
        if not self.items:
            return added
        items = self.items if isinstance(self.items, LazyItems) else LazyItems(list(self.items))
        issuers, types = [*self.issuers, *added.issuers], [*self.types, *added.types]
        return History(items + added.items, issuers, known_types=types, ready=self.ready)

    def after(self, count: int) -> "History":
        """Return the history without its first ``count`` items."""
        return History(self.items[count:], self.issuers[count:], known_types=self.types[count:])


@dataclass
class Snapshot:
    """A stored snapshot, without its items. Do not change it."""

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
    reserve: Callable[[int], None] = reserve_nothing
    """Reserves bytes of memory for what it loads; see ``InputLimit``."""


@dataclass
class Turn:
    """One request in its conversation: the history that it continues, and the items that it adds. Do not change it."""

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
    new_items: Sequence[dict[str, Any]] = field(default_factory=list)
    """The part of ``input`` that is not in the history of ``previous``."""
    history_hash: str | None = None
    """The hash of the whole input, if the client sent the history itself. None for a turn with ``explicit_previous``,
    for a turn that is not stored, and for a turn whose history was restored."""
    visible: VisibleHistory | None = None
    """The whole input as the client sees it, if the client drops the reasoning and the turn is stored."""
    continued_id: str | None = None
    """The ``previous_response_id`` of the request."""
    history_of: str | None = None
    """The id of the response whose history ``input`` begins with; None if there is none, or if the client sent it."""
    remember: Callable[[Sequence[dict[str, Any]], str | None], None] | None = None
    """Keeps the response for the rest of the client's connection, if it is not stored: takes its output items and the
    id of the upstream that issued them. None if the connection keeps nothing."""
    ordinal: Callable[[], int] | None = None
    """Reserves its ordinal among the children of ``previous``; later calls return the same number. None if there is no
    ``previous``."""
    conversation: Conversation | None = None
    """The conversation with an id to which the turn adds its items."""
    is_background: bool = False
    """Whether the response is created in the background."""

    @property
    def new_issuers(self) -> Sequence[str | None]:
        """For each of ``new_items`` the id of the upstream that issued it, as in ``History``. They end ``input``."""
        issuers = self.input.issuers
        if TRIGGER in self.input.kinds:  # which is no new item
            pairs = zip(self.input.types, issuers, strict=True)
            issuers = [issuer for kind, issuer in pairs if kind != TRIGGER]
        return issuers[len(issuers) - len(self.new_items) :]

    @property
    def is_stored(self) -> bool:
        """Whether the items of the turn are stored, perhaps only as a part of its conversation."""
        return self.store or self.conversation is not None

    def as_root(self) -> "Turn":
        """Return the turn as the start of a new conversation. Only if the client sent the whole history."""
        new_items = items.without_triggers(self.input.items)
        return dataclasses.replace(self, previous=None, ordinal=None, new_items=new_items, history_of=None)

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
