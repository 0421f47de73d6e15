"""Reading: what a client refers to, and what it sent before."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import peewee

from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.payloads import Decoder, StoredDataError, column_id, parsed_object
from floway_core.conversation.records import History, Snapshot
from floway_core.errors import GatewayError
from floway_core.protocol.items import is_bare, is_reference, listed_form, usual_form
from floway_core.protocol.versions import said
from floway_core.storage.db import placeholders, select
from floway_core.storage.tables import Items, Snapshots

PAYLOAD = "responses_items.payload"

RECOGNISED_DEPTH = 128
"""How many of the latest places in a resent history are looked at: one turn rarely adds more items than this."""

IDS_PER_QUERY = 500

MAX_SAME_ID = 50
"""Stored items with one id that are compared, to find out which of them is meant."""

# The snapshots from one back to where its history starts, or to one whose history is known, and all their items in
# order. A snapshot that has no items makes a row without one, so that no rows mean no snapshot: it may be deleted
# between two queries, and its row given to another, which is why it is asked for by both of its ids.
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

_WITH_HISTORY = """
s.id IN (
    SELECT MAX(s.id) FROM responses_snapshots s JOIN responses_conversations c ON c.id = s.conversation_id
    WHERE {alive} AND s.history_hash IN ({marks}) GROUP BY s.history_hash
)
"""
"""Of those with the same history the latest; there may be many, when a client often says the same."""


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
    """The snapshot of ``response_id``, or None: unknown, malformed, deleted, expired or another key's, all alike.

    :param oldest: conversations not used since this Unix second have expired.
    """
    named = column_id(response_id) or ""
    rows = select(database, f"{_SNAPSHOT} {_ALIVE} AND s.response_id = ?", api_key_id, oldest, named)
    return _snapshot(rows[0]) if rows else None


def recognise_history(
    database: peewee.Database, api_key_id: str, given: Sequence[dict[str, Any]], hashes: Sequence[str], oldest: int
) -> tuple[Snapshot, int] | None:
    """The snapshot whose whole history is the longest beginning of ``given``, and how many items that is.

    :param given: the items of a request that names no previous response.
    :param hashes: of the history after each of them.
    """
    ends = [place for place, item in enumerate(given, 1) if not _from_client(item)][-RECOGNISED_DEPTH:]
    if not ends:
        return None
    places = {hashes[place - 1]: place for place in ends}
    among = _WITH_HISTORY.format(alive=_ALIVE, marks=placeholders(places))
    found = [_snapshot(row) for row in select(database, _SNAPSHOT + among, api_key_id, oldest, *places)]
    if not found:
        return None
    best = max(found, key=lambda snapshot: places[snapshot.history_hash])
    return best, places[best.history_hash]


def _from_client(item: dict[str, Any]) -> bool:
    """Whether an item is of a kind that only clients make; a stored history never ends with one."""
    kind = str(item.get("type", "message"))
    return kind.endswith("_output") or (kind == "message" and item.get("role") != "assistant")


def load_history(database: peewee.Database, recent: HistoryCache, snapshot: Snapshot) -> History | None:
    """All items that a snapshot stands for, in order; None when it has been deleted meanwhile.

    :param recent: where it is looked for first, and kept.
    :raises StoredDataError: a row is damaged.
    """
    if kept := recent.get(snapshot):
        return kept.unpacked()
    known = {history.response_id: history for history in recent.latest(snapshot.conversation)}
    rows = _chain(database, snapshot, known)
    if not rows:
        return None
    beginning = known.get(rows[0][-1])
    added = [row for row in rows if row[0] is not None and (beginning is None or row[-1] != beginning.response_id)]
    decode = Decoder(PAYLOAD)
    texts = [decode.text(payload, row) for row, _, payload, *_ in added]
    items = [parsed_object(text, PAYLOAD, row) for text, (row, *_) in zip(texts, added, strict=True)]
    issuers = [upstream for _, upstream, *_ in added]
    recent.put(snapshot.conversation, PackedHistory(snapshot.response_id, texts, issuers, beginning))
    before = beginning.unpacked() if beginning else History()
    return History(before.items + items, before.issuers + issuers)


def _chain(database: peewee.Database, snapshot: Snapshot, known: Collection[str] = ()) -> list[tuple]:
    """What ``_CHAIN`` selects; nothing without the snapshot.

    :param known: response ids of snapshots behind which the chain need not go on.
    """
    sql = _CHAIN.format(known=", ?" * len(known))
    return select(database, sql, snapshot.row, snapshot.response_id, *known)


StoredItem = tuple[dict[str, Any], str | None]
"""An item, and the upstream that issued it."""


def find_items(
    database: peewee.Database,
    api_key_id: str,
    references: Mapping[int, str],
    given: Sequence[dict[str, Any]],
    oldest: int,
) -> dict[int, StoredItem | None]:
    """The stored items that a request refers to by id, by the position of the reference.

    Ids of upstreams are not unique: some number from one in each answer. Of several items with an id, the one counts
    whose neighbours are those of the reference; where that leaves a doubt it is None, because it might be the content
    of another conversation. Reasoning that came without what the model is to read of it names nothing on purpose: for
    that, what is said in it or stands around it must not speak against the stored item. Ids that are not stored are
    left out.

    :param references: the id at each position of ``given``.
    :param given: the input items of the request.
    """
    # Ids that no column holds are looked up, too: a refusal costs the same whatever was asked for.
    wanted = list(dict.fromkeys(column_id(item_id) or "" for item_id in references.values()))
    found: dict[str, tuple[dict[str, Any], str | None, int, int]] = {}
    repeated: set[str] = set()
    decode = Decoder(PAYLOAD)
    for start in range(0, len(wanted), IDS_PER_QUERY):
        named = wanted[start : start + IDS_PER_QUERY]
        sql = _ITEMS.format(alive=_ALIVE, marks=placeholders(named))
        rows = select(database, sql, api_key_id, oldest, api_key_id, *named)
        for item_id, row, upstream, payload, first, snapshot, place in rows:
            found[item_id] = (decode(payload, row), upstream, snapshot, place)
            if row != first:
                repeated.add(item_id)
    resolved: dict[int, StoredItem | None] = {}
    for position, item_id in references.items():
        if item_id in repeated:
            resolved[position] = _meant(database, api_key_id, item_id, given, position, oldest)
        elif item_id in found:
            item, upstream, snapshot, place = found[item_id]
            resolved[position] = (item, upstream) if may_mean(given[position], item) else None
            if not (is_reference(given[position]) or said(given[position])):
                near = _neighbours(database, snapshot, place, given, position)
                resolved[position] = (item, upstream) if any(near) or not near else None
    return resolved


def may_mean(sent: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether an item that came in short does not say something else than a stored one of its id."""
    return is_reference(sent) or not said(sent) or said(sent) == said(stored)


def _meant(
    database: peewee.Database,
    api_key_id: str,
    item_id: str,
    given: Sequence[dict[str, Any]],
    position: int,
    oldest: int,
) -> StoredItem | None:
    """Which of several stored items with an id a reference means; None when that is not certain."""
    rows = select(database, _SAME_ID.format(alive=_ALIVE), api_key_id, oldest, api_key_id, item_id)
    decode = Decoder(PAYLOAD)
    if said(given[position]):
        rows = [row for row in rows if may_mean(given[position], decode(row[2], row[0]))]
    texts = [decode.text(payload, row) for row, _, payload, *_ in rows]
    if len(set(texts)) > 1 or len(rows) > MAX_SAME_ID:
        near = [_neighbours(database, snapshot, place, given, position) for *_, snapshot, place in rows]
        texts, rows = (
            [one for one, equal in zip(many, near, strict=True) if equal and all(equal)] for many in (texts, rows)
        )
    if len(set(texts)) != 1:
        return None
    return parsed_object(texts[0], PAYLOAD, rows[0][0]), rows[0][1]


def _neighbours(
    database: peewee.Database, snapshot: int, place: int, given: Sequence[dict[str, Any]], position: int
) -> list[bool]:
    """Whether each neighbour of a stored item is that of a reference, as far as both are known."""
    decode, equal = Decoder(PAYLOAD), []
    for stored_place, payload, row in select(database, _AROUND, snapshot, place - 1, place + 1):
        at = position + stored_place - place
        if 0 <= at < len(given):
            stored, sent = decode(payload, row), given[at]
            same_id = sent.get("id") is not None and sent.get("id") == stored.get("id")
            by_id = is_reference(sent) or is_bare(sent)
            equal.append(same_id if by_id else usual_form(sent) == usual_form(stored))
    return equal


def find_issuers(database: peewee.Database, api_key_id: str, blob_hashes: Iterable[str]) -> dict[str, str]:
    """Which upstream issued the encrypted contents with these hashes, as far as that is known."""
    wanted = list(dict.fromkeys(blob_hashes))
    found: dict[str, str] = {}
    for start in range(0, len(wanted), IDS_PER_QUERY):
        asked = wanted[start : start + IDS_PER_QUERY]
        found.update(select(database, _ISSUERS.format(marks=placeholders(asked)), api_key_id, *asked))
    return found


def load_response(database: peewee.Database, snapshot: Snapshot) -> dict[str, Any]:
    """The response object as the client got it.

    :raises StoredDataError: a row is damaged.
    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    output = (
        Items.select(Items.id, Items.payload)
        .where(Items.snapshot == snapshot.row, Items.is_output)
        .order_by(Items.position)
    )
    with database.connection_context():
        # In this order: a snapshot that is still there had all its items when they were read.
        rows = list(output.tuples().execute(database))
        same = (Snapshots.id == snapshot.row) & (Snapshots.response_id == snapshot.response_id)
        found = Snapshots.select(Snapshots.envelope).where(same).tuples().execute(database)
        envelopes = [envelope for (envelope,) in found]
    if not envelopes:
        raise response_not_found(snapshot.response_id)
    envelope = Decoder("responses_snapshots.envelope")(envelopes[0], snapshot.row)
    decode = Decoder(PAYLOAD)
    return {**envelope, "output": [decode(payload, row) for row, payload in rows]}


def load_input_items(database: peewee.Database, snapshot: Snapshot) -> list[dict[str, Any]]:
    """What the model saw for the response of a snapshot: every item with an id, oldest first.

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
    """The answer to who asks for a response that is not there."""
    return GatewayError(404, f"Response with id '{response_id}' not found.")


# --------------------------------------------------------------------------------------------------------------------
def _snapshot(row: tuple) -> Snapshot:
    """:param row: what ``_SNAPSHOT`` selects."""
    return Snapshot(*row[:-1], metadata=_metadata(row[0], row[-1]))


def _metadata(row: int, text: str) -> dict[str, dict[str, Any]]:
    column = "responses_snapshots.metadata_json"
    metadata = parsed_object(text, column, row)
    if not all(isinstance(own, dict) for own in metadata.values()):
        raise StoredDataError(column, row)
    return metadata


def expiry_cutoff(retention_days: int) -> int:
    """Conversations not used since this Unix second have expired."""
    return max(0, int(time.time()) - retention_days * 86_400)
