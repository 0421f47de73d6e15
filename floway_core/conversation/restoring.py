"""Restore the reasoning in the histories of clients that drop it.

A response is stored with hashes of the history that such a client sees. When the client sends the history again, the
stored items, with the reasoning, replace the items of the client. Only items of the same API key are found, until their
conversation expires.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import peewee

from floway_core.conversation import load
from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.payloads import Decoder
from floway_core.conversation.records import History, Snapshot
from floway_core.protocol.visible_history import TurnEnd, VisibleHistory, continued
from floway_core.storage.db import insert_all, placeholders, select

RECOGNISED_TURNS = 128
"""How many of the last turns of a history are looked up."""

# The latest snapshot for each hash; a client that repeats itself stores several.
_BY_HASH = """
SELECT hash, MAX(snapshot_id) FROM responses_visible_hashes h
JOIN responses_snapshots s ON s.id = h.snapshot_id JOIN responses_conversations c ON c.id = s.conversation_id
WHERE h.api_key_id = ? AND h.hash IN ({marks}) AND s.deleted_at IS NULL AND c.used_at >= ?
GROUP BY hash
"""

_OUTPUT = "SELECT id, upstream_id, payload FROM responses_items WHERE snapshot_id = ? AND is_output ORDER BY position"


def restore_history(
    database: peewee.Database,
    cache: HistoryCache,
    api_key_id: str,
    turns: Sequence[TurnEnd],
    oldest: int,
    limit: InputLimit,
) -> tuple[Snapshot, History, int] | None:
    """Find the stored response with the longest history that a request starts with.

    :param turns: the turns of the model in the request.
    :param oldest: conversations not used since this Unix second have expired.
    :param limit: for the stored history.
    :returns: its snapshot, the stored history, and the position in the request where new items start.
    """
    ends = {turn.digest: turn.end for turn in turns[-RECOGNISED_TURNS:]}
    rows = _find_snapshots(database, api_key_id, ends, oldest)
    for digest in sorted(rows, key=lambda digest: ends[digest], reverse=True):
        snapshot = load.get_snapshot_by_row(database, api_key_id, rows[digest], oldest)
        if snapshot and (history := load.load_history(database, cache, snapshot, limit)):
            return snapshot, history, ends[digest]
    return None


def restore_turns(
    database: peewee.Database,
    api_key_id: str,
    request_items: History,
    turns: Sequence[TurnEnd],
    oldest: int,
    limit: InputLimit,
) -> History:
    """Restore the reasoning of single turns, found by their calls, in a history that is not stored completely.

    :param request_items: the input items of the request.
    :param turns: the turns of the model in these items.
    """
    by_digest = {turn.turn_digest: turn for turn in turns[-RECOGNISED_TURNS:] if turn.turn_digest}
    rows = _find_snapshots(database, api_key_id, by_digest, oldest)
    items, issuers, decode = list(request_items.items), list(request_items.issuers), Decoder(load.PAYLOAD)
    for digest in sorted(rows, key=lambda digest: by_digest[digest].start, reverse=True):
        turn = by_digest[digest]
        output = select(database, _OUTPUT, rows[digest])
        limit.add(sum(len(payload) for _, _, payload in output))
        items[turn.start : turn.end] = [decode(payload, row) for row, _, payload in output]
        issuers[turn.start : turn.end] = [upstream for _, upstream, _ in output]
    return History(items, issuers)


def store_hashes(
    database: peewee.Database,
    api_key_id: str,
    snapshot: int,
    before: VisibleHistory,
    output: Iterable[Mapping[str, Any]],
) -> None:
    """Store the hashes by which a response is found. Part of the transaction that stores it.

    :param snapshot: row id.
    :param before: the whole input of the response.
    """
    history = continued(before, output)
    hashes = dict.fromkeys((history.digest(), history.turn_digest()))
    rows = [(api_key_id, digest, snapshot) for digest in hashes if digest]
    insert_all(database, "responses_visible_hashes", ("api_key_id", "hash", "snapshot_id"), rows)


def _find_snapshots(
    database: peewee.Database, api_key_id: str, hashes: Mapping[str, Any], oldest: int
) -> dict[str, int]:
    """Return the row id of the latest snapshot for each hash that is stored."""
    if not hashes:
        return {}
    rows = select(database, _BY_HASH.format(marks=placeholders(hashes)), api_key_id, *hashes, oldest)
    return dict(rows)
