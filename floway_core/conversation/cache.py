"""Histories kept in memory: a turn that continues a recent one need not read a long conversation again.

A snapshot never changes, and its response id is never given twice, so what is kept for a response stays right. Who may
continue it, and whether it has been deleted, is asked of the database all the same (``load.find``).
"""

import itertools
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from floway_core.conversation.records import History, Snapshot
from floway_core.protocol import jsontext

ANCESTORS_LOOKED_FOR = 16
"""Histories of a conversation that are tried as the beginning of one that is not kept, the latest first."""


class PackedHistory:
    """A history as JSON: a fraction of what it takes as objects, and fresh objects for everyone who unpacks it."""

    __slots__ = ("_issuers", "_previous", "_texts", "response_id", "size")

    def __init__(
        self,
        response_id: str,
        texts: Iterable[bytes],
        issuers: Iterable[str | None],
        previous: "PackedHistory | None" = None,
    ) -> None:
        """:param response_id: of the response that ends it.
        :param texts: items as JSON, each of which has been parsed, or made here.
        :param issuers: as in ``History``.
        :param previous: what comes before these items; it is shared, not copied.
        """
        self.response_id = response_id
        self._texts = tuple(texts)
        self._issuers = tuple(issuer and sys.intern(issuer) for issuer in issuers)
        self._previous = previous
        self.size = sum(map(sys.getsizeof, self._texts)) + 16 * len(self._texts) + 600
        """Bytes, roughly, without what comes before: the texts, two pointers for each, and the objects around them."""

    def unpacked(self) -> History:
        parts, part = [], self
        while part:
            parts.append(part)
            part = part._previous
        parts.reverse()
        texts = [text for part in parts for text in part._texts]
        return History(jsontext.loads_many(texts), [issuer for part in parts for issuer in part._issuers])

    def follows(self, kept: "dict[str, PackedHistory]") -> bool:
        """Whether what comes before, if anything does, is among ``kept``."""
        before = self._previous
        return before is None or kept.get(before.response_id) is before


@dataclass
class _Conversation:
    histories: dict[str, PackedHistory] = field(default_factory=dict)
    """By response id."""
    size: int = 0


class HistoryCache:
    """The histories of the conversations that were led on last. For many threads."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes for all of them, of which one conversation may take half; with 0 there are none."""
        self._limit = limit
        self.size = 0
        """Bytes, roughly, that they take now."""
        self._kept: OrderedDict[int, _Conversation] = OrderedDict()
        """By row of the conversation, the one used last at the end."""
        self._lock = threading.Lock()

    def get(self, snapshot: Snapshot) -> PackedHistory | None:
        """The history that ends with a snapshot, or None: it is not kept here, or not any more."""
        with self._lock:
            conversation = self._kept.get(snapshot.conversation)
            if conversation is None:
                return None
            self._kept.move_to_end(snapshot.conversation)
            return conversation.histories.get(snapshot.response_id)

    def latest(self, conversation: int) -> list[PackedHistory]:
        """Those of a conversation with which another of its histories is likely to begin."""
        with self._lock:
            kept = self._kept.get(conversation)
            return list(itertools.islice(reversed(kept.histories.values()), ANCESTORS_LOOKED_FOR)) if kept else []

    def put(self, conversation: int, history: PackedHistory) -> None:
        """Keep a history, unless what it begins with has been dropped meanwhile. When there is no more room, the
        conversation that has not been used for longest goes as a whole: its histories share what they have in common.

        :param conversation: its row.
        """
        if not self._limit:
            return
        with self._lock:
            kept = self._kept.get(conversation, _Conversation())
            if history.response_id in kept.histories or not history.follows(kept.histories):
                return
            self._kept[conversation] = kept
            self._kept.move_to_end(conversation)
            kept.histories[history.response_id] = history
            kept.size += history.size
            self.size += history.size
            if kept.size > self._limit // 2:  # it would take the place of too many others
                self._drop(conversation)
            while self.size > self._limit:
                self._drop(next(iter(self._kept)))

    def forget(self, conversation: int) -> None:
        """Drop the histories of a conversation, of which something has been deleted."""
        with self._lock:
            if conversation in self._kept:
                self._drop(conversation)

    def _drop(self, conversation: int) -> None:
        self.size -= self._kept.pop(conversation).size
