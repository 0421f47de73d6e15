"""Writing a snapshot with its items, in one transaction."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import peewee

from floway_core.conversation import payloads, restoring
from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.records import Snapshot, Turn
from floway_core.errors import GatewayError
from floway_core.protocol import items, jsontext
from floway_core.storage.db import execute, insert, lock_row, select, transaction, write

ROWS_PER_INSERT = 100

ROW_BYTES = 200
"""What a row takes beside its contents, with its entries in the indexes: roughly, for quotas."""

SAME_SNAPSHOT = "id = ? AND response_id = ?"
"""Condition for a snapshot that was read earlier: if it has been deleted, another one may have got its row id."""


class PreviousResponseDeleted(GatewayError):
    """The response that a turn continues has been deleted while the turn ran."""

    def __init__(self) -> None:
        super().__init__(409, "The response that was to be continued has been deleted meanwhile.")


MetadataHook = Callable[[], dict[str, dict[str, Any]]]
"""Calls ``on_snapshot_commit`` of the owner, inside the transaction; returns the new snapshot's metadata by plugin."""


def claim_ordinal(database: peewee.Database, snapshot: Snapshot) -> int:
    """Reserve the next child ordinal of a snapshot with a single UPDATE ... RETURNING; the first one is 1.

    :raises PreviousResponseDeleted: the snapshot has been deleted.
    """
    claim = f"UPDATE responses_snapshots SET ordinals = ordinals + 1 WHERE {SAME_SNAPSHOT} RETURNING ordinals"
    rows = write(database, claim, snapshot.row, snapshot.response_id)
    if not rows:
        raise PreviousResponseDeleted
    ordinal: int = rows[0][0]
    return ordinal


def commit(
    database: peewee.Database,
    cache: HistoryCache,
    turn: Turn,
    *,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int] | None,
    hook: MetadataHook,
) -> None:
    """Store what a turn added, in one transaction. Afterwards any worker can continue the response.

    :param cache: gets the new history, if it has the one that the turn continues.
    :param upstream_id: the upstream that issued the output; None if the gateway generated it.
    :param response: the complete response object.
    :param ordinal: reserves the ordinal among the children of the parent; required if the turn has a previous snapshot.
    :param hook: collects the metadata of the plugins.
    :raises PreviousResponseDeleted: the client continues a response by id, and it has been deleted while the turn ran.
    :raises ValueError: a value cannot be stored as JSON.
    """
    try:
        _commit(database, cache, turn, upstream_id, response, ordinal, hook)
    except PreviousResponseDeleted:
        if turn.explicit_previous:
            raise
        # The client did not name the deleted response, and has sent the whole history.
        _commit(database, cache, turn.as_root(), upstream_id, response, ordinal, hook)


def snapshot_mode(response: Mapping[str, Any]) -> str:
    """Return ``replace`` if the response compacts the history, which then starts anew; else ``append``."""
    return "replace" if items.replaces_history(_output_items(response)) else "append"


def _output_items(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [item for item in response["output"] if isinstance(item, dict)]


def _generate_item_id(response_id: str, position: int, item: dict[str, Any]) -> str:
    """Generate a unique id for an item without one, in OpenAI's form."""
    return f"{'msg' if 'role' in item else 'item'}_{response_id.removeprefix('resp_')}_{position}"


def _commit(
    database: peewee.Database,
    cache: HistoryCache,
    turn: Turn,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int] | None,
    hook: MetadataHook,
) -> None:
    output, mode = _output_items(response), snapshot_mode(response)
    new_items = [] if mode == "replace" else turn.new_items
    now = int(time.time())
    parent = turn.previous
    if mode == "replace":
        hash_before = items.START
    else:
        hash_before = turn.history_hash or items.extended_hash(
            parent.history_hash if parent else items.START, new_items
        )
    envelope = payloads.encode({key: value for key, value in response.items() if key != "output"})
    issuers = [None] * len(new_items) + [upstream_id] * len(output)
    texts = [jsontext.dumps(item) for item in (*new_items, *output)]
    stored_payloads = list(map(payloads.encode_text, texts))
    rows = [
        {
            "is_output": position >= len(new_items),
            "item_id": payloads.storable_id(item.get("id")) or _generate_item_id(turn.response_id, position, item),
            "upstream_id": issuers[position],
            "blob_hash": items.blob_hash(item),
            "payload": stored_payloads[position],
            "api_key_id": turn.api_key_id,
            "position": position,
        }
        for position, item in enumerate((*new_items, *output))
    ]
    stored = sum(map(len, stored_payloads)) + len(envelope) + ROW_BYTES * (len(rows) + 1)
    with transaction(database):
        if parent:
            conversation = parent.conversation
            lock_row(database, "api_keys", turn.api_key_id)
            mark_used(database, conversation, now, stored)
            if not select(
                database, f"SELECT 1 FROM responses_snapshots WHERE {SAME_SNAPSHOT}", parent.row, parent.response_id
            ):
                raise PreviousResponseDeleted
        else:
            new = {"api_key_id": turn.api_key_id, "used_at": now, "stored_bytes": stored}
            (conversation,) = insert(database, "responses_conversations", [new])
        metadata = hook()
        row = {
            "response_id": turn.response_id,
            "api_key_id": turn.api_key_id,
            "conversation_id": conversation,
            "parent_id": parent.row if parent else None,
            "mode": mode,
            "depth": parent.depth + 1 if parent else 0,
            "ordinal": ordinal() if parent and ordinal else 0,
            "ordinals": 0,
            "history_bytes": _history_bytes(parent, mode, texts),
            "history_hash": items.extended_hash(hash_before, output),
            "envelope": envelope,
            "metadata_json": _encode_metadata(metadata),
            "created_at": now,
        }
        (snapshot,) = insert(database, "responses_snapshots", [row])
        item_rows = [{**row, "snapshot_id": snapshot} for row in rows]
        for start in range(0, len(item_rows), ROWS_PER_INSERT):
            insert(database, "responses_items", item_rows[start : start + ROWS_PER_INSERT])
        if turn.visible and mode == "append":
            restoring.store_hashes(database, turn.api_key_id, snapshot, turn.visible, output)
    # A client that resends the history rarely needs the cache, unless the stored history takes the place of its own.
    if parent and (turn.explicit_previous or turn.visible):
        beginning = cache.get(parent) if mode == "append" else None
        if beginning or mode == "replace":
            cache.put(conversation, PackedHistory(turn.response_id, texts, issuers, beginning))


def _history_bytes(parent: Snapshot | None, mode: str, texts: list[bytes]) -> int | None:
    """Return the bytes of a new history; None if those of its parent are unknown."""
    before = parent.history_bytes if parent and mode == "append" else 0
    return None if before is None else before + sum(map(len, texts))


def mark_used(database: peewee.Database, conversation: int, now: int, added: int = 0) -> None:
    """Store the last use of a conversation, unless a later one is stored, and how much it stores.

    This locks the conversation until the transaction ends. Every transaction that changes its snapshots calls it first,
    so that two of them cannot deadlock.

    :param conversation: its row id.
    :param now: Unix time in seconds.
    :param added: bytes that are added; negative if some are deleted.
    """
    changes = "used_at = CASE WHEN used_at > ? THEN used_at ELSE ? END, stored_bytes = stored_bytes + ?"
    execute(database, f"UPDATE responses_conversations SET {changes} WHERE id = ?", now, now, added, conversation)


def _encode_metadata(metadata: dict[str, dict[str, Any]]) -> str:
    """:raises ValueError: the metadata of a plugin is not a JSON object."""
    for name, own in metadata.items():
        if not isinstance(own, dict):
            raise ValueError(f"the metadata of plugin {name!r} is no object")
    return jsontext.dumps(metadata).decode()
