"""Writing: a snapshot with its items, in one transaction."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import peewee

from floway_core.conversation import payloads
from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.records import Snapshot, Turn
from floway_core.errors import GatewayError
from floway_core.protocol import items, jsontext
from floway_core.storage.db import execute, insert, lock_row, select, transaction, write

ROWS_PER_INSERT = 100

SAME = "id = ? AND response_id = ?"
"""A snapshot that was found before: by now its row may have been deleted, and the next snapshot have got its id."""


class PreviousResponseDeleted(GatewayError):
    """What a turn continues has been deleted while it ran."""

    def __init__(self) -> None:
        super().__init__(409, "The response that was to be continued has been deleted meanwhile.")


class MetadataHook(Protocol):
    """Lets the plugins have their say; runs inside the transaction."""

    def __call__(self, mode: str) -> dict[str, dict[str, Any]]:
        """:returns: the new snapshot's metadata, by plugin."""


def claim_ordinal(database: peewee.Database, snapshot: Snapshot) -> int:
    """The next ordinal for a child of a snapshot, from 1. No two callers anywhere get the same.

    :raises PreviousResponseDeleted: the snapshot has been deleted.
    """
    claim = f"UPDATE responses_snapshots SET ordinals = ordinals + 1 WHERE {SAME} RETURNING ordinals"
    rows = write(database, claim, snapshot.row, snapshot.response_id)
    if not rows:
        raise PreviousResponseDeleted
    return rows[0][0]


def commit(
    database: peewee.Database,
    recent: HistoryCache,
    turn: Turn,
    *,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int],
    hook: MetadataHook,
) -> None:
    """Store what a turn added, all of it or nothing. When it returns, any worker can continue the response.

    :param recent: holds the new history afterwards, if it held that which the turn continues.
    :param upstream_id: who issued the output; None when the gateway made it.
    :param response: the complete response object.
    :param ordinal: claims this snapshot's place among the children of its parent; not called for a root.
    :raises PreviousResponseDeleted: the client continues by id what has been deleted while the turn ran.
    :raises ValueError: something is no JSON.
    """
    try:
        _commit(database, recent, turn, upstream_id, response, ordinal, hook)
    except PreviousResponseDeleted:
        if turn.explicit_previous:
            raise
        # The client never spoke of the other response, and has sent everything that this one needs.
        _commit(database, recent, turn.as_root(), upstream_id, response, ordinal, hook)


def _made_id(response_id: str, place: int, item: dict[str, Any]) -> str:
    """For an item that came without: no other item has it, and OpenAI takes it for one of its kind."""
    return f"{'msg' if 'role' in item else 'item'}_{response_id.removeprefix('resp_')}_{place}"


def _commit(
    database: peewee.Database,
    recent: HistoryCache,
    turn: Turn,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int],
    hook: MetadataHook,
) -> None:
    output = [item for item in response["output"] if isinstance(item, dict)]
    mode = "replace" if items.replaces_history(output) else "append"
    kept = [] if mode == "replace" else turn.new_items
    now = int(time.time())
    parent = turn.previous
    if mode == "replace":
        hash_before = items.START
    else:
        hash_before = turn.history_hash or items.extended_hash(parent.history_hash if parent else items.START, kept)
    envelope = payloads.encode({key: value for key, value in response.items() if key != "output"})
    issuers = [None] * len(kept) + [upstream_id] * len(output)
    texts = [jsontext.dumps(item) for item in (*kept, *output)]
    rows = [
        {
            "is_output": place >= len(kept),
            "item_id": payloads.column_id(item.get("id")) or _made_id(turn.response_id, place, item),
            "upstream_id": issuers[place],
            "blob_hash": items.blob_hash(item),
            "payload": payloads.encode_text(texts[place]),
            "api_key_id": turn.api_key_id,
            "position": place,
        }
        for place, item in enumerate((*kept, *output))
    ]
    with transaction(database):
        if parent:
            conversation = parent.conversation
            lock_row(database, "api_keys", turn.api_key_id)
            mark_used(database, conversation, now)
            if not select(database, f"SELECT 1 FROM responses_snapshots WHERE {SAME}", parent.row, parent.response_id):
                raise PreviousResponseDeleted
        else:
            (conversation,) = insert(
                database, "responses_conversations", [{"api_key_id": turn.api_key_id, "used_at": now}]
            )
        metadata = hook(mode)
        row = {
            "response_id": turn.response_id,
            "api_key_id": turn.api_key_id,
            "conversation_id": conversation,
            "parent_id": parent.row if parent else None,
            "mode": mode,
            "depth": parent.depth + 1 if parent else 0,
            "ordinal": ordinal() if parent else 0,
            "ordinals": 0,
            "history_hash": items.extended_hash(hash_before, output),
            "envelope": envelope,
            "metadata_json": _checked(metadata),
            "created_at": now,
        }
        (snapshot,) = insert(database, "responses_snapshots", [row])
        owned = [{**row, "snapshot_id": snapshot} for row in rows]
        for start in range(0, len(owned), ROWS_PER_INSERT):
            insert(database, "responses_items", owned[start : start + ROWS_PER_INSERT])
    if turn.explicit_previous and parent:  # who sends the whole history again will hardly name it next time
        beginning = recent.get(parent) if mode == "append" else None
        if beginning or mode == "replace":
            recent.put(conversation, PackedHistory(turn.response_id, texts, issuers, beginning))


def mark_used(database: peewee.Database, conversation: int, now: int) -> None:
    """Note a use, unless the clock has gone back since the last one. It also locks the conversation until the
    transaction ends: who changes its snapshots does this first, so that of two who do one waits for the other and none
    of them for both."""
    latest = "CASE WHEN used_at > ? THEN used_at ELSE ? END"
    execute(database, f"UPDATE responses_conversations SET used_at = {latest} WHERE id = ?", now, now, conversation)


def _checked(metadata: dict[str, dict[str, Any]]) -> str:
    """:raises ValueError: what a plugin wants to keep could not be read again."""
    for name, own in metadata.items():
        if not isinstance(own, dict):
            raise ValueError(f"the metadata of plugin {name!r} is no object")
    return jsontext.dumps(metadata).decode()
