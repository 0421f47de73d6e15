"""A cache of histories, so that the next turn of a conversation does not read all of it again.

A snapshot never changes and its response id is never reused, so an entry never becomes stale. The database still
decides who may continue a response, and whether it has been deleted (``load.find_snapshot``).
"""

import itertools
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from floway_core.conversation.records import History, ReadyItems, Snapshot
from floway_core.protocol.lazy_items import LazyItems

MAX_ANCESTORS = 16
"""How many cached histories are tried as the start of a history that is not cached, the latest first."""


class JoinedHistory(NamedTuple):
    """A whole history in one piece. Do not change it."""

    texts: list[bytes]
    issuers: list[str | None]
    types: list[str | None]
    ready_ids: set[str] | None
    """The ids of its items if none of them needs a change; None if one does."""

    @property
    def size(self) -> int:
        """Bytes without what its lists refer to."""
        return sum(map(sys.getsizeof, self))


class PackedHistory:
    """A history as JSON, which is much smaller than the objects. Each call of ``unpack`` returns new objects."""

    __slots__ = (
        "_issuers",
        "_previous",
        "_ready_ids",
        "_texts",
        "_types",
        "joined",
        "response_id",
        "size",
        "text_bytes",
    )

    def __init__(
        self,
        response_id: str,
        texts: Iterable[bytes],
        issuers: Iterable[str | None],
        types: Iterable[str | None],
        previous: "PackedHistory | None" = None,
        ready_ids: Sequence[str] | None = None,
    ) -> None:
        """:param response_id: id of the response that ends the history.
        :param texts: the items as valid JSON.
        :param issuers: as in ``History``.
        :param types: as in ``History``.
        :param previous: the history before these items; shared, not copied.
        :param ready_ids: what ``input_items.ready_ids`` returns for the items.
        """
        self.response_id = response_id
        # Copies, because orjson's bytes keep their buffer of 4 KiB or more.
        self._texts = tuple(bytes(memoryview(text)) for text in texts)
        self.text_bytes: int = sum(map(len, self._texts)) + (previous.text_bytes if previous else 0)
        """Bytes of the whole history as JSON."""
        self._issuers = tuple(issuer and sys.intern(issuer) for issuer in issuers)
        self._types = tuple(kind and sys.intern(kind) for kind in types)
        self._ready_ids = ready_ids
        self._previous = previous
        self.joined: JoinedHistory | None = None
        """The whole history, if it was the last one of its branch that a cache got."""
        ids = ready_ids or ()
        self.size = sum(map(sys.getsizeof, self._texts)) + 24 * len(self._texts) + sum(map(sys.getsizeof, ids)) + 600
        """Approximate bytes without ``previous``: texts and ids, three pointers for each, and the objects around
        them."""

    def unpack(self) -> History:
        """Return the whole history, as new objects. They are parsed when they are first read."""
        whole = self.joined or self.join()
        ready = None if whole.ready_ids is None else ReadyItems(whole.texts, whole.ready_ids)
        return History(LazyItems(whole.texts, len(whole.texts)), whole.issuers, self.text_bytes, whole.types, ready)

    def join(self) -> "JoinedHistory":
        """Return the whole history in one piece. It begins with the nearest one before it that has been joined."""
        parts: list[PackedHistory] = []
        part: PackedHistory | None = self
        before: JoinedHistory | None = None
        while part and (before := part.joined) is None:
            parts.append(part)
            part = part._previous
        whole = before or JoinedHistory([], [], [], set())
        texts, issuers, types = list(whole.texts), list(whole.issuers), list(whole.types)
        ready_ids = None if whole.ready_ids is None else set(whole.ready_ids)
        for part in reversed(parts):
            texts += part._texts
            issuers += part._issuers
            types += part._types
            own = part._ready_ids
            if ready_ids is None or own is None or not ready_ids.isdisjoint(own):  # an id that occurs twice is changed
                ready_ids = None
            else:
                ready_ids.update(own)
        return JoinedHistory(texts, issuers, types, ready_ids)

    def replace_joined(self) -> int:
        """Join the history, and keep the result in place of that of the history before these items.

        :returns: approximate bytes that it takes in addition.
        """
        self.joined = self.join()
        added, previous = self.joined.size, self._previous
        if previous and previous.joined:
            added -= previous.joined.size
            previous.joined = None
        return added

    def is_continuation_of(self, histories: "dict[str, PackedHistory]") -> bool:
        """Whether the history before these items is one of ``histories``, or there is none."""
        previous = self._previous
        return previous is None or histories.get(previous.response_id) is previous


@dataclass
class _Conversation:
    histories: dict[str, PackedHistory] = field(default_factory=dict)
    """By response id."""
    size: int = 0


class HistoryCache:
    """The histories of the most recently used conversations. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes for all histories; one conversation may use half of it. 0 disables the cache."""
        self._limit = limit
        self.size = 0
        """Approximate bytes in use."""
        self._conversations: OrderedDict[int, _Conversation] = OrderedDict()
        """By row id of the conversation, the most recently used at the end."""
        self._lock = threading.Lock()

    def get(self, snapshot: Snapshot) -> PackedHistory | None:
        """Return the history that ends with a snapshot, or None if it is not cached."""
        return self.find(snapshot.conversation, snapshot.response_id)

    def find(self, conversation: int, response_id: str) -> PackedHistory | None:
        """Return the history that ends with a response, or None if it is not cached.

        :param conversation: the key under which it was put.
        """
        with self._lock:
            cached = self._conversations.get(conversation)
            if cached is None:
                return None
            self._conversations.move_to_end(conversation)
            return cached.histories.get(response_id)

    def latest(self, conversation: int) -> list[PackedHistory]:
        """Return the cached histories that are probably the start of another history of the conversation.

        :param conversation: its row id.
        """
        with self._lock:
            cached = self._conversations.get(conversation)
            return list(itertools.islice(reversed(cached.histories.values()), MAX_ANCESTORS)) if cached else []

    def put(self, conversation: int, history: PackedHistory) -> None:
        """Add a history, unless the history that it extends has been evicted meanwhile.

        A full cache evicts the least recently used conversation as a whole, because its histories share their items.

        :param conversation: its row id.
        """
        if not self._limit:
            return
        with self._lock:
            cached = self._conversations.get(conversation, _Conversation())
            if history.response_id in cached.histories or not history.is_continuation_of(cached.histories):
                return
            self._conversations[conversation] = cached
            self._conversations.move_to_end(conversation)
            cached.histories[history.response_id] = history
            added = history.size + history.replace_joined()
            cached.size += added
            self.size += added
            if cached.size > self._limit // 2:  # it would evict too many others
                self._evict(conversation)
            while self.size > self._limit:
                self._evict(next(iter(self._conversations)))

    def forget(self, conversation: int) -> None:
        """Remove the histories of a conversation, because one of its responses has been deleted.

        :param conversation: its row id.
        """
        with self._lock:
            if conversation in self._conversations:
                self._evict(conversation)

    def _evict(self, conversation: int) -> None:
        self.size -= self._conversations.pop(conversation).size
