"""Histories kept in memory: a turn that continues a recent one need not read a long conversation again.

A snapshot never changes, and its response id is never given twice, so what is kept here cannot be wrong. Who may
continue it, and whether it has been deleted, is asked of the database all the same (``load.find``).
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from floway_core.conversation.rows import History, Snapshot
from floway_core.protocol import jsontext


class PackedHistory:
    """A history as JSON: a fraction of what it takes as objects, and fresh objects for everyone who unpacks it."""

    __slots__ = ("_issuers", "_previous", "_text", "size")

    def __init__(
        self, texts: Iterable[bytes], issuers: Iterable[str | None], previous: "PackedHistory | None" = None
    ) -> None:
        """:param texts: the items as JSON, each of which has been parsed or made here.
        :param issuers: as in ``History``.
        :param previous: what comes before them; it is shared, not copied.
        """
        self._text = b",".join(texts)
        self._issuers = tuple(issuers)
        self._previous = previous
        self.size = len(self._text) + 8 * len(self._issuers) + 500
        """Bytes, roughly, without what comes before: the text, the issuers, and the objects around them."""

    def unpacked(self) -> History:
        parts, part = [], self
        while part:
            parts.append(part)
            part = part._previous
        parts.reverse()
        items = jsontext.parsed(b"[%s]" % b",".join(part._text for part in parts if part._text))
        return History(items, list(chain.from_iterable(part._issuers for part in parts)))


@dataclass
class _Conversation:
    histories: dict[str, PackedHistory] = field(default_factory=dict)
    """By the id of the response that ends them."""
    size: int = 0


class RecentHistories:
    """The histories of the conversations that were led on last. For many threads."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes that all of them may take together; with 0 there are none."""
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[int, _Conversation] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, snapshot: Snapshot) -> PackedHistory | None:
        """The history that ends with a snapshot, or None: it is not kept here, or not any more."""
        with self._lock:
            conversation = self._kept.get(snapshot.conversation)
            if conversation is None:
                return None
            self._kept.move_to_end(snapshot.conversation)
            return conversation.histories.get(snapshot.response_id)

    def put(self, conversation: int, response_id: str, history: PackedHistory) -> None:
        """Keep the history that ends with a response. When there is no more room, the conversation that has not been
        used for longest goes as a whole: its histories share what they have in common.

        :param conversation: its row.
        """
        with self._lock:
            kept = self._kept.setdefault(conversation, _Conversation())
            self._kept.move_to_end(conversation)
            if response_id not in kept.histories:
                kept.histories[response_id] = history
                kept.size += history.size
                self._size += history.size
            if kept.size > self._limit:  # the others would not be enough
                self._drop(conversation)
            while self._size > self._limit:
                self._drop(next(iter(self._kept)))

    def _drop(self, conversation: int) -> None:
        self._size -= self._kept.pop(conversation).size
