"""Reading: what a client refers to, and what it sent before."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import peewee

from floway_core.conversation.payloads import StoredDataError, decode, parsed_object, unpacked
from floway_core.conversation.rows import Snapshot, StoredItem
from floway_core.models import Conversations, Items, Snapshots
from floway_core.protocol import items, jsontext

PAYLOAD = "responses_items.payload"

RECOGNISED_DEPTH = 128
"""How many of the latest places in a resent history are looked at: one turn rarely adds more items than this."""

# The snapshots from one back to where its history starts, and all their items in order.
_CHAIN = """
WITH RECURSIVE chain (id, parent_id, mode, depth) AS (
    SELECT id, parent_id, mode, depth FROM responses_snapshots WHERE id = {0}
    UNION ALL
    SELECT s.id, s.parent_id, s.mode, s.depth
    FROM responses_snapshots s JOIN chain ON s.id = chain.parent_id
    WHERE chain.mode = 'append'
)
SELECT i.id, i.upstream_id, i.payload, i.item_id, i.is_output, chain.id
FROM chain JOIN responses_items i ON i.snapshot_id = chain.id
ORDER BY chain.depth, i.position
"""

_SNAPSHOT = (
    Snapshots.id,
    Snapshots.conversation,
    Snapshots.response_id,
    Snapshots.depth,
    Snapshots.history_hash,
    Snapshots.metadata_json,
)


def find(database: peewee.Database, api_key_id: str, response_id: str, oldest: int) -> Snapshot | None:
    """The snapshot of ``response_id``, or None: unknown, malformed, deleted, expired or another key's, all alike.

    :param oldest: conversations not used since this Unix second have expired.
    """
    alive = _alive(api_key_id, oldest) & (Snapshots.response_id == response_id)
    return _first(database, Snapshots.select(*_SNAPSHOT).join(Conversations).where(alive))


def recognise(
    database: peewee.Database, api_key_id: str, given: Sequence[dict[str, Any]], oldest: int
) -> tuple[Snapshot, int] | None:
    """The snapshot whose whole history is the longest beginning of ``given``, and how many items that is.

    :param given: the items of a request that names no previous response.
    """
    hashes = items.extended_hashes(items.START, given)
    ends = [place for place, item in enumerate(given, 1) if not _from_client(item)][-RECOGNISED_DEPTH:]
    if not ends:
        return None
    places = {hashes[place - 1]: place for place in ends}
    query = (
        Snapshots.select(*_SNAPSHOT)
        .join(Conversations)
        .where(_alive(api_key_id, oldest) & Snapshots.history_hash.in_(list(places)))
    )
    found = _all(database, query)
    if not found:
        return None
    best = max(found, key=lambda snapshot: (places[snapshot.history_hash], snapshot.row))
    return best, places[best.history_hash]


def _from_client(item: dict[str, Any]) -> bool:
    """Whether an item is of a kind that only clients make; a stored history never ends with one."""
    kind = str(item.get("type", "message"))
    return kind.endswith("_output") or (kind == "message" and item.get("role") != "assistant")


def history(database: peewee.Database, snapshot_row: int) -> list[StoredItem]:
    """All items that a snapshot stands for, in order.

    :raises StoredDataError: a row is damaged.
    """
    return [StoredItem(body, upstream) for body, upstream, *_ in _history_rows(database, snapshot_row)]


def _history_rows(
    database: peewee.Database, snapshot_row: int
) -> list[tuple[dict[str, Any], str | None, str, bool, int]]:
    """(body, upstream id, item id, is output, snapshot row) of each item in the history."""
    with database.connection_context():
        rows = database.execute_sql(_CHAIN.format(database.param), (snapshot_row,)).fetchall()
    bodies = _parsed([(row, payload) for row, _, payload, *_ in rows])
    return [
        (body, upstream, item_id, bool(is_output), snapshot)
        for body, (_, upstream, _, item_id, is_output, snapshot) in zip(bodies, rows, strict=True)
    ]


def _parsed(rows: Iterable[tuple[int, bytes]]) -> list[dict[str, Any]]:
    """The items in (row id, payload): parsed in one go, because most conversations have many small ones."""
    texts = [(row, unpacked(payload, PAYLOAD, row)) for row, payload in rows]
    try:
        bodies = jsontext.loads(b"[" + b",".join(text for _, text in texts) + b"]")
    except ValueError:
        bodies = []
    if len(bodies) == len(texts) and all(isinstance(body, dict) for body in bodies):
        return bodies
    for row, text in texts:
        parsed_object(text, PAYLOAD, row)  # raises at the damaged one
    raise StoredDataError(PAYLOAD, [row for row, _ in texts])


def by_item_id(database: peewee.Database, api_key_id: str, item_id: str, oldest: int) -> StoredItem | None:
    """The latest stored item with this id, or None."""
    query = (
        Items.select(Items.id, Items.upstream_id, Items.payload)
        .join(Snapshots)
        .join(Conversations)
        .where(_alive(api_key_id, oldest) & (Items.api_key == api_key_id) & (Items.item_id == item_id))
        .order_by(Items.id.desc())
        .limit(1)
    )
    with database.connection_context():
        row = next(iter(query.tuples().execute(database)), None)
    return StoredItem(decode(row[2], PAYLOAD, row[0]), row[1]) if row else None


def issuers(database: peewee.Database, api_key_id: str, blob_hashes: Iterable[str]) -> dict[str, str]:
    """Which upstream issued the encrypted contents with these hashes, as far as that is known."""
    wanted = list(dict.fromkeys(blob_hashes))
    found: dict[str, str] = {}
    with database.connection_context():
        for start in range(0, len(wanted), 500):
            query = Items.select(Items.blob_hash, Items.upstream_id).where(
                Items.api_key == api_key_id,
                Items.blob_hash.in_(wanted[start : start + 500]),
                Items.upstream_id.is_null(False),
            )
            found.update(query.order_by(Items.id).tuples().execute(database))
    return found


def response(database: peewee.Database, snapshot: Snapshot) -> dict[str, Any]:
    """The response object of a snapshot, as the client got it.

    :raises StoredDataError: a row is damaged.
    """
    column = "responses_snapshots.envelope"
    with database.connection_context():
        row = Snapshots.select(Snapshots.envelope).where(Snapshots.id == snapshot.row)
        envelope = next(iter(row.tuples().execute(database)))[0]
        output = (
            Items.select(Items.id, Items.payload)
            .where(Items.snapshot == snapshot.row, Items.is_output)
            .order_by(Items.position)
        )
        rows = list(output.tuples().execute(database))
    return {**decode(envelope, column, snapshot.row), "output": _parsed(rows)}


def input_items(database: peewee.Database, snapshot: Snapshot) -> list[dict[str, Any]]:
    """What the model saw for the response of a snapshot: every item with an id, oldest first."""
    return [
        {**body, "id": body.get("id") or item_id}
        for body, _, item_id, is_output, row in _history_rows(database, snapshot.row)
        if not (is_output and row == snapshot.row)
    ]


# --------------------------------------------------------------------------------------------------------------------
def _alive(api_key_id: str, oldest: int) -> peewee.Expression:
    return (Snapshots.api_key == api_key_id) & Snapshots.deleted_at.is_null() & (Conversations.used_at >= oldest)


def _first(database: peewee.Database, query: peewee.ModelSelect) -> Snapshot | None:
    return next(iter(_all(database, query)), None)


def _all(database: peewee.Database, query: peewee.ModelSelect) -> list[Snapshot]:
    with database.connection_context():
        rows = list(query.tuples().execute(database))
    return [Snapshot(*row[:-1], metadata=_metadata(row[0], row[-1])) for row in rows]


def _metadata(row: int, text: str) -> dict[str, dict[str, Any]]:
    column = "responses_snapshots.metadata_json"
    metadata = parsed_object(text, column, row)
    if not all(isinstance(own, dict) for own in metadata.values()):
        raise StoredDataError(column, row)
    return metadata


def oldest_alive(retention_days: int) -> int:
    """Conversations not used since this Unix second have expired."""
    return int(time.time()) - retention_days * 86_400
