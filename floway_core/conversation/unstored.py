"""Unstored responses of a connection. The client can continue them as long as it is connected."""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.records import History, Snapshot
from floway_core.protocol import items, jsontext
from floway_core.protocol.input_items import ready_ids

MAX_RESPONSES = 1000
"""Responses of one connection that can be continued. The oldest is dropped first."""

_chain_numbers = itertools.count(1)


@dataclass(frozen=True)
class UnstoredHistory:
    """The history that ends with a response that was not stored."""

    packed: PackedHistory
    chain: int
    """The number of the conversation in the cache."""
    stored: Snapshot | None
    """The stored response at the start of the history, if there is one."""
    stored_length: int
    """The number of items at the start of the history that belong to ``stored``."""


@dataclass
class _Response:
    """Where the history of a response is, as in ``UnstoredHistory``."""

    chain: int
    stored: Snapshot | None
    stored_length: int
    ordinal: Callable[[], int] | None
    """The ordinal of the response among the children of ``stored``, until a request has continued it."""


class UnstoredResponses:
    """Stores the responses of one connection in a cache that all connections of a process share.

    Used by one thread at a time. If the cache evicts a response, clients have to send the whole history.
    """

    def __init__(self, cache: HistoryCache) -> None:
        self._cache = cache
        self._responses: OrderedDict[str, _Response] = OrderedDict()
        """By id."""

    def find(self, response_id: str) -> UnstoredHistory | None:
        """Return the history of a response; None if it is unknown or has been evicted."""
        known = self._responses.get(response_id)
        packed = self._cache.find(known.chain, response_id) if known else None
        return UnstoredHistory(packed, known.chain, known.stored, known.stored_length) if known and packed else None

    def pass_on_ordinal(self, response_id: str) -> Callable[[], int] | None:
        """Return the ordinal of a response among the children of the stored response that it continues.

        It passes to the first request that continues the response: the two are one branch. Others get None.
        """
        response = self._responses[response_id]
        ordinal, response.ordinal = response.ordinal, None
        return ordinal

    def remember(
        self,
        response_id: str,
        continued: UnstoredHistory | None,
        added: History,
        output: Sequence[dict[str, Any]],
        issuer: str | None,
        stored: Snapshot | None = None,
        stored_length: int = 0,
        ordinal: Callable[[], int] | None = None,
    ) -> None:
        """Remember a response.

        :param continued: the history that it continues, if it is a history of this connection.
        :param added: the items that the request adds to ``continued``, or its whole input.
        :param output: the items of the response. If they compact the history, the new history starts with them.
        :param issuer: id of the upstream that issued the output; None if the gateway did.
        :param stored: the stored response at the start of ``added``, if ``continued`` is None.
        :param stored_length: the number of items of ``added`` that belong to ``stored``.
        :param ordinal: reserves the ordinal of the response among the children of the stored response.
        """
        if items.replaces_history(output):
            continued, added, stored, stored_length, ordinal = None, History(), None, 0, None
        elif continued:
            stored, stored_length = continued.stored, continued.stored_length
        pairs = [pair for pair in zip(added.items, added.issuers, strict=True) if pair[0].get("type") != items.TRIGGER]
        kept = [*(item for item, _ in pairs), *output]
        texts, types = map(jsontext.dumps, kept), map(items.item_type, kept)
        issuers = [*(issuer for _, issuer in pairs), *[issuer] * len(output)]
        chain = continued.chain if continued else next(_chain_numbers)
        before = continued.packed if continued else None
        self._cache.put(chain, PackedHistory(response_id, texts, issuers, types, before, ready_ids(kept)))
        self._responses[response_id] = _Response(chain, stored, stored_length, ordinal)
        if len(self._responses) > MAX_RESPONSES:
            _, oldest = self._responses.popitem(last=False)
            if all(response.chain != oldest.chain for response in self._responses.values()):
                self._cache.forget(oldest.chain)

    def forget_all(self) -> None:
        """Forget all responses, because the connection has ended."""
        for chain in {response.chain for response in self._responses.values()}:
            self._cache.forget(chain)
        self._responses.clear()
