"""Reading snapshots, histories and items."""

import itertools
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import peewee

from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.payloads import Decoder, StoredDataError, parse_object, storable_id
from floway_core.conversation.records import History, Snapshot
from floway_core.errors import GatewayError
from floway_core.protocol.item_versions import item_text
from floway_core.protocol.items import is_bare, is_reference, listed_form, usual_form
from floway_core.protocol.visible_history import is_client_item
from floway_core.storage.db import Row, placeholders, select
from floway_core.storage.tables import Items, Snapshots

PAYLOAD = "responses_items.payload"

RECOGNISED_DEPTH = 128
"""How many of the last positions in a resent history are compared; one turn rarely adds more items."""

IDS_PER_QUERY = 500

MAX_SAME_ID = 50
"""How many stored items with the same id are compared to resolve a reference."""

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
SELECT s.id, s.conversation_id, s.response_id, s.depth, s.history_hash, c.used_at, s.metadata_json
FROM responses_snapshots s JOIN responses_conversations c ON c.id = s.conversation_id
WHERE """

_ALIVE = "s.api_key_id = ? AND s.deleted_at IS NULL AND c.used_at >= ?"

_LATEST_BY_HASH = """
s.id IN (
    SELECT MAX(s.id) FROM responses_snapshots s JOIN responses_conversations c ON c.id = s.conversation_id
    WHERE {alive} AND s.history_hash IN ({marks}) GROUP BY s.history_hash
)
"""
"""The latest snapshot for each hash; a client that repeats itself stores many with the same history."""


_NAMED = """
FROM responses_items i
JOIN responses_snapshots s ON s.id = i.snapshot_id JOIN responses_conversations c ON c.id = s.conversation_id
WHERE {alive} AND i.api_key_id = ? AND i.item_id"""

_ITEMS = f"""
SELECT item.item_id, item.id, item.upstream_id, item.payload, named.first, item.snapshot_id, item.position
FROM responses_items item JOIN (
    SELECT MAX(i.id) AS last, MIN(i.id) AS first {_NAMED} IN ({{marks}}) GROUP BY i.item_id
) named ON named.last = item.id
"""

_SAME_ID = f"""
SELECT i.id, i.upstream_id, i.payload, i.snapshot_id, i.position {_NAMED} = ? ORDER BY i.id DESC LIMIT {MAX_SAME_ID + 1}
"""

_AROUND = "SELECT position, payload, id FROM responses_items WHERE snapshot_id = ? AND position IN (?, ?)"

_ISSUERS = """
SELECT blob_hash, upstream_id FROM responses_items
WHERE api_key_id = ? AND blob_hash IN ({marks}) AND upstream_id IS NOT NULL ORDER BY id
"""


def find_snapshot(database: peewee.Database, api_key_id: str, response_id: str, oldest: int) -> Snapshot | None:
    """Return the snapshot of ``response_id``; None if it is unknown, malformed, deleted, expired or of another key.

    :param oldest: conversations not used since this Unix second have expired.
    """
    valid_id = storable_id(response_id) or ""
    rows = select(database, f"{_SNAPSHOT} {_ALIVE} AND s.response_id = ?", api_key_id, oldest, valid_id)
    return _snapshot(rows[0]) if rows else None


def get_snapshot_by_row(database: peewee.Database, api_key_id: str, row: int, oldest: int) -> Snapshot | None:
    """Return the snapshot with a row id, under the same conditions as ``find_snapshot``."""
    rows = select(database, f"{_SNAPSHOT} {_ALIVE} AND s.id = ?", api_key_id, oldest, row)
    return _snapshot(rows[0]) if rows else None


def recognise_history(
    database: peewee.Database, api_key_id: str, sent: Sequence[dict[str, Any]], hashes: Sequence[str], oldest: int
) -> tuple[Snapshot, int] | None:
    """Find the snapshot whose history is the longest beginning of ``sent``; return it and the length of its history.

    :param sent: the items of a request without a previous response.
    :param hashes: the hash of the history after each of them.
    :param oldest: as in ``find_snapshot``.
    """
    ends = [length for length, item in enumerate(sent, 1) if not is_client_item(item)][-RECOGNISED_DEPTH:]
    if not ends:
        return None
    lengths = {hashes[length - 1]: length for length in ends}
    condition = _LATEST_BY_HASH.format(alive=_ALIVE, marks=placeholders(lengths))
    rows = select(database, _SNAPSHOT + condition, api_key_id, oldest, *lengths)
    if not rows:
        return None
    longest = max(map(_snapshot, rows), key=lambda snapshot: lengths[snapshot.history_hash])
    return longest, lengths[longest.history_hash]


def load_history(database: peewee.Database, cache: HistoryCache, snapshot: Snapshot) -> History | None:
    """Return the whole history that ends with a snapshot; None if it has been deleted meanwhile.

    :param cache: used before the database, and updated.
    :raises StoredDataError: a row is damaged.
    """
    if history := cache.get(snapshot):
        return history.unpack()
    known = {history.response_id: history for history in cache.latest(snapshot.conversation)}
    rows = _chain(database, snapshot, known)
    if not rows:
        return None
    beginning = known.get(rows[0][-1])
    added = [row for row in rows if row[0] is not None and (beginning is None or row[-1] != beginning.response_id)]
    decode = Decoder(PAYLOAD)
    texts = [decode.text(payload, row) for row, _, payload, *_ in added]
    items = [parse_object(text, PAYLOAD, row) for text, (row, *_) in zip(texts, added, strict=True)]
    issuers = [upstream for _, upstream, *_ in added]
    cache.put(snapshot.conversation, PackedHistory(snapshot.response_id, texts, issuers, beginning))
    before = beginning.unpack() if beginning else History()
    return History(before.items + items, before.issuers + issuers)


def _chain(database: peewee.Database, snapshot: Snapshot, known: Collection[str] = ()) -> list[Row]:
    """Run ``_CHAIN``; return its rows, none if the snapshot does not exist.

    :param known: response ids of snapshots whose history is cached; the chain ends there.
    """
    sql = _CHAIN.format(known=", ?" * len(known))
    return select(database, sql, snapshot.row, snapshot.response_id, *known)


StoredItem = tuple[dict[str, Any], str | None]
"""An item, and the upstream that issued it."""


def find_items(
    database: peewee.Database,
    api_key_id: str,
    references: Mapping[int, str],
    sent_items: Sequence[dict[str, Any]],
    oldest: int,
) -> dict[int, StoredItem | None]:
    """Return the stored items that a request refers to by id, by the position of the reference.

    Item ids are not unique, because some upstreams count from one in each answer. Among several items with an id, the
    neighbours of the reference decide. If they do not, the value is None, because the item might belong to another
    conversation. A bare reasoning item is no explicit reference: neither its own text nor its neighbours may contradict
    the stored item. Ids that are not stored are omitted.

    :param references: the id at each position of ``sent_items``.
    :param sent_items: the input items of the request.
    :param oldest: as in ``find_snapshot``.
    """
    # Look up malformed ids too, so that the time of the answer does not depend on the id.
    ids = list(dict.fromkeys(storable_id(item_id) or "" for item_id in references.values()))
    latest: dict[str, tuple[dict[str, Any], str | None, int, int]] = {}
    repeated: set[str] = set()
    decode = Decoder(PAYLOAD)
    for start in range(0, len(ids), IDS_PER_QUERY):
        batch = ids[start : start + IDS_PER_QUERY]
        sql = _ITEMS.format(alive=_ALIVE, marks=placeholders(batch))
        rows = select(database, sql, api_key_id, oldest, api_key_id, *batch)
        for item_id, row, upstream, payload, first, snapshot, stored_at in rows:
            latest[item_id] = (decode(payload, row), upstream, snapshot, stored_at)
            if row != first:
                repeated.add(item_id)
    resolved: dict[int, StoredItem | None] = {}
    for position, item_id in references.items():
        if item_id in repeated:
            resolved[position] = _disambiguate(database, api_key_id, item_id, sent_items, position, oldest)
        elif item_id in latest:
            item, upstream, snapshot, stored_at = latest[item_id]
            sent = sent_items[position]
            resolved[position] = (item, upstream) if can_refer_to(sent, item) else None
            if not (is_reference(sent) or item_text(sent)):
                matches = _compare_neighbours(database, snapshot, stored_at, sent_items, position)
                resolved[position] = (item, upstream) if any(matches) or not matches else None
    return resolved


def can_refer_to(sent: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether a reference, or an item that came without its content, does not contradict a stored item of its id."""
    return is_reference(sent) or not item_text(sent) or item_text(sent) == item_text(stored)


def _disambiguate(
    database: peewee.Database,
    api_key_id: str,
    item_id: str,
    sent_items: Sequence[dict[str, Any]],
    position: int,
    oldest: int,
) -> StoredItem | None:
    """Return the one of several stored items with an id that a reference means; None if that is uncertain."""
    rows = select(database, _SAME_ID.format(alive=_ALIVE), api_key_id, oldest, api_key_id, item_id)
    decode = Decoder(PAYLOAD)
    if item_text(sent_items[position]):
        rows = [row for row in rows if can_refer_to(sent_items[position], decode(row[2], row[0]))]
    texts = [decode.text(payload, row) for row, _, payload, *_ in rows]
    if len(set(texts)) > 1 or len(rows) > MAX_SAME_ID:
        matches = [
            _compare_neighbours(database, snapshot, stored_at, sent_items, position) for *_, snapshot, stored_at in rows
        ]
        is_match = [bool(equal) and all(equal) for equal in matches]
        texts = list(itertools.compress(texts, is_match))
        rows = list(itertools.compress(rows, is_match))
    if len(set(texts)) != 1:
        return None
    return parse_object(texts[0], PAYLOAD, rows[0][0]), rows[0][1]


def _compare_neighbours(
    database: peewee.Database, snapshot: int, stored_at: int, sent_items: Sequence[dict[str, Any]], position: int
) -> list[bool]:
    """Whether each neighbour of a stored item equals that of a reference, for those that both have."""
    decode, equal = Decoder(PAYLOAD), []
    for neighbour_at, payload, row in select(database, _AROUND, snapshot, stored_at - 1, stored_at + 1):
        at = position + neighbour_at - stored_at
        if 0 <= at < len(sent_items):
            stored, sent = decode(payload, row), sent_items[at]
            same_id = sent.get("id") is not None and sent.get("id") == stored.get("id")
            by_id = is_reference(sent) or is_bare(sent)
            equal.append(same_id if by_id else usual_form(sent) == usual_form(stored))
    return equal


def find_issuers(database: peewee.Database, api_key_id: str, blob_hashes: Iterable[str]) -> dict[str, str]:
    """Return the upstream that issued each encrypted content, by its hash. Unknown ones are omitted."""
    hashes = list(dict.fromkeys(blob_hashes))
    issuers: dict[str, str] = {}
    for start in range(0, len(hashes), IDS_PER_QUERY):
        batch = hashes[start : start + IDS_PER_QUERY]
        issuers.update(select(database, _ISSUERS.format(marks=placeholders(batch)), api_key_id, *batch))
    return issuers


def load_response(database: peewee.Database, snapshot: Snapshot) -> dict[str, Any]:
    """Return the response object as the client received it.

    :raises StoredDataError: a row is damaged.
    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    output = (
        Items.select(Items.id, Items.payload)
        .where(Items.snapshot == snapshot.row, Items.is_output)
        .order_by(Items.position)
    )
    with database.connection_context():
        # Items first: if the snapshot still exists afterwards, its items were complete.
        rows = list(output.tuples().execute(database))
        same = (Snapshots.id == snapshot.row) & (Snapshots.response_id == snapshot.response_id)
        snapshots = Snapshots.select(Snapshots.envelope).where(same).tuples().execute(database)
        envelopes = [envelope for (envelope,) in snapshots]
    if not envelopes:
        raise response_not_found(snapshot.response_id)
    envelope = Decoder("responses_snapshots.envelope")(envelopes[0], snapshot.row)
    decode = Decoder(PAYLOAD)
    return {**envelope, "output": [decode(payload, row) for row, payload in rows]}


def load_input_items(database: peewee.Database, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the input of the model for the response of a snapshot: every item with an id, oldest first.

    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    rows = _chain(database, snapshot)
    if not rows:
        raise response_not_found(snapshot.response_id)
    decode = Decoder(PAYLOAD)
    seen = [
        (decode(payload, row), item_id)
        for row, _, payload, item_id, is_output, owner in rows
        if row is not None and not (is_output and owner == snapshot.response_id)
    ]
    return [{**listed_form(item), "id": item_id} for item, item_id in seen]


def response_not_found(response_id: str) -> GatewayError:
    """Return the 404 for a response that does not exist."""
    return GatewayError(404, f"Response with id '{response_id}' not found.")


# --------------------------------------------------------------------------------------------------------------------
def _snapshot(row: Row) -> Snapshot:
    """:param row: of a ``_SNAPSHOT`` query."""
    row_id, conversation, response_id, depth, history_hash, used_at, metadata = row
    return Snapshot(row_id, conversation, response_id, depth, history_hash, used_at, _metadata(row_id, metadata))


def _metadata(row: int, text: str) -> dict[str, dict[str, Any]]:
    column = "responses_snapshots.metadata_json"
    metadata = parse_object(text, column, row)
    if not all(isinstance(own, dict) for own in metadata.values()):
        raise StoredDataError(column, row)
    return metadata


def expiry_cutoff(retention_days: int) -> int:
    """Return the Unix time in seconds before whose last use a conversation has expired."""
    return max(0, int(time.time()) - retention_days * 86_400)
