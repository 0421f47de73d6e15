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

from floway_core.conversation.records import History, ReadyItems, Snapshot
from floway_core.protocol.lazy_items import LazyItems

MAX_ANCESTORS = 16
"""How many cached histories are tried as the start of a history that is not cached, the latest first."""


class PackedHistory:
    """A history as JSON, which is much smaller than the objects. Each call of ``unpack`` returns new objects."""

    __slots__ = ("_issuers", "_previous", "_ready_ids", "_texts", "_types", "response_id", "size", "text_bytes")

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
        self.size = sum(map(sys.getsizeof, self._texts)) + 24 * len(self._texts) + 600
        if ready_ids:
            self.size += sys.getsizeof(ready_ids) + sum(map(sys.getsizeof, ready_ids))
        """Approximate bytes without ``previous``: texts and ids, three pointers for each, and the objects around them."""

    def unpack(self) -> History:
        """Return the whole history, as new objects. They are parsed when they are first read."""
        parts: list[PackedHistory] = []
        part: PackedHistory | None = self
        while part:
            parts.append(part)
            part = part._previous
        parts.reverse()
        texts: list[bytes] = []
        issuers: list[str | None] = []
        types: list[str | None] = []
        for part in parts:
            texts += part._texts
            issuers += part._issuers
            types += part._types
        return History(LazyItems(texts), issuers, self.text_bytes, types, _find_ready(parts, texts))

    def is_continuation_of(self, histories: "dict[str, PackedHistory]") -> bool:
        """Whether the history before these items is one of ``histories``, or there is none."""
        previous = self._previous
        return previous is None or histories.get(previous.response_id) is previous


def _find_ready(parts: Sequence[PackedHistory], texts: list[bytes]) -> ReadyItems | None:
    """Return the items of a history that need no change: all of them, or none.

    :param texts: the items in ``parts``.
    """
    ids: set[str] = set()
    for part in parts:
        own = part._ready_ids
        if own is None or not ids.isdisjoint(own):  # an id that occurs twice has to be changed
            return None
        ids.update(own)
    return ReadyItems(texts, ids)


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
            cached.size += history.size
            self.size += history.size
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
