"""Load snapshots, histories and items."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.payloads import Decoder, StoredDataError, parse_object, storable_id
from floway_core.conversation.records import Conversation, History, Snapshot
from floway_core.errors import GatewayError
from floway_core.protocol.input_items import ready_ids
from floway_core.protocol.items import item_type, listed_form
from floway_core.protocol.visible_history import is_client_item
from floway_core.storage.db import Row, padded, placeholders, select
from floway_core.storage.tables import Items, Snapshots

PAYLOAD = "responses_items.payload"

RECOGNISED_DEPTH = 128
"""How many of the last positions in a resent history are compared, of those after an output item and of those behind
the last of these. One turn rarely adds more items."""

IDS_PER_QUERY = 500

# The snapshots from one back to the start of its history, or to one whose history is cached, with all their items in
# order. A snapshot without items gives a row of NULLs, so that no rows mean no snapshot. The query needs the row id and
# the response id, because another snapshot may have got the row id after a deletion.
_CHAIN = """
WITH RECURSIVE chain (id, parent_id, mode, depth, response_id) AS (
    SELECT id, parent_id, mode, depth, response_id FROM responses_snapshots WHERE id = ? AND response_id = ?
    UNION ALL
    SELECT s.id, s.parent_id, s.mode, s.depth, s.response_id
    FROM responses_snapshots s JOIN chain ON s.id = chain.parent_id
    WHERE chain.mode = 'append' AND chain.response_id NOT IN (''{known})
)
SELECT i.id, i.upstream_id, i.payload, i.item_id, i.is_output, chain.response_id
FROM chain LEFT JOIN responses_items i ON i.snapshot_id = chain.id
ORDER BY chain.depth, i.position
"""

_SNAPSHOT = """
SELECT s.id, s.conversation_id, s.response_id, s.depth, s.history_hash, c.used_at, s.metadata_json, s.history_bytes
FROM responses_snapshots s JOIN responses_conversations c ON c.id = s.conversation_id
WHERE """

ALIVE = "s.api_key_id = ? AND s.deleted_at IS NULL AND c.used_at >= ?"

_LATEST_BY_HASH = """
s.id IN (
    SELECT MAX(s.id) FROM responses_snapshots s JOIN responses_conversations c ON c.id = s.conversation_id
    WHERE {alive} AND s.history_hash IN ({marks}) GROUP BY s.history_hash
)
"""
"""The latest snapshot for each hash; a client that repeats itself stores many with the same history."""


_ISSUERS = """
SELECT blob_hash, upstream_id FROM responses_items
WHERE api_key_id = ? AND blob_hash IN ({marks}) AND upstream_id IS NOT NULL ORDER BY id
"""


def find_snapshot(database: peewee.Database, api_key_id: str, response_id: str, oldest: int) -> Snapshot | None:
    """Return the snapshot of ``response_id``; None if it is unknown, malformed, deleted, expired or of another key.

    :param oldest: conversations not used since this Unix second have expired.
    """
    valid_id = storable_id(response_id) or ""
    rows = select(database, f"{_SNAPSHOT} {ALIVE} AND s.response_id = ?", api_key_id, oldest, valid_id)
    return _snapshot(rows[0]) if rows else None


def get_snapshot_by_row(database: peewee.Database, api_key_id: str, row: int, oldest: int) -> Snapshot | None:
    """Return the snapshot with a row id, under the same conditions as ``find_snapshot``."""
    rows = select(database, f"{_SNAPSHOT} {ALIVE} AND s.id = ?", api_key_id, oldest, row)
    return _snapshot(rows[0]) if rows else None


def get_head(database: peewee.Database, conversation: Conversation) -> Snapshot | None:
    """Return the snapshot that the next turn of a conversation continues, which may not be a response."""
    rows = select(
        database, f"{_SNAPSHOT} s.id = ? AND s.conversation_id = ?", conversation.head, conversation.conversation
    )
    return _snapshot(rows[0]) if rows else None


def get_owner(database: peewee.Database, conversation: Conversation, response_id: str) -> Snapshot | None:
    """Return a snapshot of a conversation by its id. It may not be a response."""
    sql = f"{_SNAPSHOT} s.response_id = ? AND s.conversation_id = ?"
    rows = select(database, sql, response_id, conversation.conversation)
    return _snapshot(rows[0]) if rows else None


def recognise_history(
    database: peewee.Database, api_key_id: str, sent: Sequence[dict[str, Any]], hashes: Sequence[str], oldest: int
) -> tuple[Snapshot, int] | None:
    """Find the snapshot with the longest history that ``sent`` starts with; return it and the length of its history.

    :param sent: the items of a request without a previous response.
    :param hashes: the hash of the history after each of them.
    :param oldest: as in ``find_snapshot``.
    """
    ends = [length for length, item in enumerate(sent, 1) if not is_client_item(item)][-RECOGNISED_DEPTH:]
    if not ends:
        return None
    # The latest response may have no output. Then the history ends with an item of the client.
    without_output = range(ends[-1] + 1, len(sent))[-RECOGNISED_DEPTH:]
    lengths = {hashes[length - 1]: length for length in (*ends, *without_output)}
    wanted = padded(database, list(lengths))
    condition = _LATEST_BY_HASH.format(alive=ALIVE, marks=placeholders(wanted))
    rows = select(database, _SNAPSHOT + condition, api_key_id, oldest, *wanted)
    if not rows:
        return None
    longest = max(map(_snapshot, rows), key=lambda snapshot: lengths[snapshot.history_hash])
    return longest, lengths[longest.history_hash]


def load_history(
    database: peewee.Database, cache: HistoryCache, snapshot: Snapshot, limit: InputLimit | None = None
) -> History | None:
    """Return the whole history that ends with a snapshot; None if it has been deleted meanwhile.

    :param cache: used before the database, and updated.
    :param limit: counts the bytes of the history.
    :raises StoredDataError: a row is damaged.
    :raises GatewayError: 400, the history is larger than ``limit``.
    """
    if limit and snapshot.history_bytes is not None:
        limit.add(snapshot.history_bytes)
        limit = None
    if history := cache.get(snapshot):
        if limit:
            limit.add(history.text_bytes)
        return history.unpack()
    cached = {history.response_id: history for history in cache.latest(snapshot.conversation)}
    rows = _chain(database, snapshot, cached)
    if not rows:
        return None
    beginning = cached.get(rows[0][-1])
    new_rows = [row for row in rows if row[0] is not None and (beginning is None or row[-1] != beginning.response_id)]
    if limit and beginning:
        limit.add(beginning.text_bytes)
    decode = Decoder(PAYLOAD, limit)
    texts = [decode.text(payload, row) for row, _, payload, *_ in new_rows]
    items = [parse_object(text, PAYLOAD, row) for text, (row, *_) in zip(texts, new_rows, strict=True)]
    issuers = [upstream for _, upstream, *_ in new_rows]
    packed = PackedHistory(snapshot.response_id, texts, issuers, map(item_type, items), beginning, ready_ids(items))
    cache.put(snapshot.conversation, packed)
    return packed.unpack()


def _chain(database: peewee.Database, snapshot: Snapshot, cached_ids: Collection[str] = ()) -> list[Row]:
    """Run ``_CHAIN``; return its rows, none if the snapshot does not exist.

    :param cached_ids: response ids of snapshots whose history is cached; the chain ends there.
    """
    sql = _CHAIN.format(known=", ?" * len(cached_ids))
    return select(database, sql, snapshot.row, snapshot.response_id, *cached_ids)


def find_issuers(database: peewee.Database, api_key_id: str, blob_hashes: Iterable[str]) -> dict[str, str]:
    """Return the upstream that issued each encrypted content, by its hash. Unknown ones are omitted."""
    hashes = list(dict.fromkeys(blob_hashes))
    issuers: dict[str, str] = {}
    for start in range(0, len(hashes), IDS_PER_QUERY):
        batch = hashes[start : start + IDS_PER_QUERY]
        issuers.update(select(database, _ISSUERS.format(marks=placeholders(batch)), api_key_id, *batch))
    return issuers


def load_response(database: peewee.Database, snapshot: Snapshot, limit: InputLimit | None = None) -> dict[str, Any]:
    """Return the response object as the client received it.

    :param limit: counts its bytes.
    :raises StoredDataError: a row is damaged.
    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    output = (
        Items.select(Items.id, Items.payload)
        .where(Items.snapshot == snapshot.row, Items.is_output)
        .order_by(Items.position)
    )
    with database.connection_context():
        # Items first: if the snapshot still exists afterwards, the items were complete.
        rows = list(output.tuples().execute(database))
        same = (Snapshots.id == snapshot.row) & (Snapshots.response_id == snapshot.response_id)
        snapshots = Snapshots.select(Snapshots.envelope).where(same).tuples().execute(database)
        envelopes = [envelope for (envelope,) in snapshots]
    if not envelopes:
        raise response_not_found(snapshot.response_id)
    envelope = Decoder("responses_snapshots.envelope", limit)(envelopes[0], snapshot.row)
    decode = Decoder(PAYLOAD, limit)
    return {**envelope, "output": [decode(payload, row) for row, payload in rows]}


@dataclass(frozen=True)
class StoredItem:
    """An item of a history, not decoded yet."""

    id: str
    """Unique in its history."""
    stored_id: str
    """The id in the database. Other items may have the same id."""
    row: int
    payload: bytes
    issuer: str | None
    owner: str
    """Id of the response that added it."""
    is_output: bool

    def decode(self, limit: InputLimit) -> dict[str, Any]:
        """Return the item.

        :param limit: counts its bytes.
        :raises StoredDataError: the row is damaged.
        """
        return Decoder(PAYLOAD, limit)(self.payload, self.row)

    def listed(self, limit: InputLimit) -> dict[str, Any]:
        """Return the item as the API lists it.

        :param limit: counts its bytes.
        """
        return {**listed_form(self.decode(limit)), "id": self.id}


def load_stored_items(database: peewee.Database, snapshot: Snapshot, limit: InputLimit) -> list[StoredItem]:
    """Return all items of the history that ends with a snapshot, the oldest first.

    :param limit: reserves memory for them.
    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    limit.reserve(snapshot.history_bytes or 0)
    rows = _chain(database, snapshot)
    if not rows:
        raise response_not_found(snapshot.response_id)
    rows = [row for row in rows if row[0] is not None]
    return [
        StoredItem(item_id, stored_id, row, payload, issuer, owner, bool(is_output))
        for item_id, (row, issuer, payload, stored_id, is_output, owner) in zip(
            distinct_ids([item_id for _, _, _, item_id, *_ in rows]), rows, strict=True
        )
    ]


def load_input_items(database: peewee.Database, snapshot: Snapshot, limit: InputLimit) -> list[StoredItem]:
    """Return the input of the model for the response of a snapshot, the oldest item first.

    :param limit: as in ``load_stored_items``.
    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    items = load_stored_items(database, snapshot, limit)
    return [item for item in items if not (item.is_output and item.owner == snapshot.response_id)]


def distinct_ids(ids: Sequence[str]) -> list[str]:
    """Return ids for a list of items in which each occurs once.

    A client requests the next page with the id of the last item, so an id must identify a position. But upstreams and
    clients repeat ids. The first item with an id keeps it; later ones get a number appended, the same in every page.

    :param ids: of all items, the oldest first.
    """
    used = set(ids)
    numbers: dict[str, int] = {}
    distinct = []
    for item_id in ids:
        number = numbers.get(item_id, 0) + 1
        while number > 1 and f"{item_id}-{number}" in used:
            number += 1
        numbers[item_id] = number
        distinct.append(item_id if number == 1 else f"{item_id}-{number}")
    return distinct


def response_not_found(response_id: str) -> GatewayError:
    """Return the 404 for a response that does not exist."""
    return GatewayError(404, f"Response with id '{response_id}' not found.")


# --------------------------------------------------------------------------------------------------------------------
def _snapshot(row: Row) -> Snapshot:
    """:param row: of a ``_SNAPSHOT`` query."""
    row_id, conversation, response_id, depth, history_hash, used_at, metadata, size = row
    return Snapshot(row_id, conversation, response_id, depth, history_hash, used_at, _metadata(row_id, metadata), size)


def _metadata(row: int, text: str) -> dict[str, dict[str, Any]]:
    if text == "{}":  # few plugins store something
        return {}
    column = "responses_snapshots.metadata_json"
    metadata = parse_object(text, column, row)
    if not all(isinstance(values, dict) for values in metadata.values()):
        raise StoredDataError(column, row)
    return metadata


def expiry_cutoff(retention_days: int) -> int:
    """Return the Unix time in seconds before whose last use a conversation has expired."""
    return max(0, int(time.time()) - retention_days * 86_400)
