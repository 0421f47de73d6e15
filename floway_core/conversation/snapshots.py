"""Encode a snapshot and its items before a transaction, and insert their rows in it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import peewee

from floway_core.conversation import payloads
from floway_core.conversation.records import Snapshot
from floway_core.protocol import items, jsontext
from floway_core.storage.db import execute, insert, insert_all

ITEM_COLUMNS = (
    "snapshot_id",
    "api_key_id",
    "position",
    "is_output",
    "item_id",
    "upstream_id",
    "blob_hash",
    "payload",
)

ROW_BYTES = 200
"""Approximate size of a row without its contents, including its index entries, for quotas."""

SAME_SNAPSHOT = "id = ? AND response_id = ?"
"""Condition for a snapshot that was read earlier. After a deletion, another snapshot may have its row id."""


class NewItem(NamedTuple):
    """An item to store."""

    content: dict[str, Any]
    issuer: str | None = None
    """Id of the upstream that issued it."""
    is_output: bool = False
    id: str | None = None
    """Its id in the database, if it has been stored before."""


class NewSnapshot(NamedTuple):
    """A snapshot to store, with its items."""

    row: Mapping[str, Any]
    """The columns with values before the transaction."""
    item_rows: Sequence[tuple[Any, ...]]
    """The values of ``ITEM_COLUMNS`` after the first one."""
    items: Sequence[NewItem]
    texts: Sequence[bytes]
    """The items as JSON."""
    stored_bytes: int
    """Its approximate size in the database, in bytes."""


def encode_snapshot(
    api_key_id: str,
    response_id: str,
    parent: Snapshot | None,
    new_items: Sequence[NewItem],
    *,
    envelope: dict[str, Any],
    history_hash: str,
    mode: str = "append",
    is_hidden: bool = False,
) -> NewSnapshot:
    """Encode a snapshot.

    :param response_id: its unique id, also if it is not a response.
    :param envelope: the response object without its output.
    :param history_hash: the hash of the whole history with ``new_items``.
    :param is_hidden: whether it is only a part of its conversation, and cannot be read and continued by its id.
    :raises ValueError: a value cannot be stored as JSON.
    """
    now = int(time.time())
    texts = [jsontext.dumps(item.content) for item in new_items]
    item_payloads, envelope_payload = [*map(payloads.encode_text, texts)], payloads.encode(envelope)
    row = {
        "response_id": response_id,
        "api_key_id": api_key_id,
        "parent_id": parent.row if parent else None,
        "mode": mode,
        "depth": parent.depth + 1 if parent else 0,
        "ordinals": 0,
        "history_bytes": _history_bytes(parent, mode, texts),
        "history_hash": history_hash,
        "envelope": envelope_payload,
        "created_at": now,
        "deleted_at": now if is_hidden else None,
    }
    item_rows = _item_rows(api_key_id, response_id, new_items, item_payloads)
    stored_bytes = sum(map(len, item_payloads)) + len(envelope_payload) + ROW_BYTES * (len(new_items) + 1)
    return NewSnapshot(row, item_rows, new_items, texts, stored_bytes)


def _item_rows(
    api_key_id: str, response_id: str, new_items: Sequence[NewItem], item_payloads: Sequence[bytes]
) -> list[tuple[Any, ...]]:
    """Return the rows of items without the snapshot. An item without an id gets a unique one, in OpenAI's form."""
    unique, rows = response_id.removeprefix("resp_"), []
    for position, ((content, issuer, is_output, item_id), payload) in enumerate(
        zip(new_items, item_payloads, strict=True)
    ):
        if not item_id and "id" in content:
            item_id = payloads.storable_id(content["id"])
        if not item_id:
            kind = "message" if "role" in content else str(content.get("type"))
            item_id = items.make_id(kind, f"{unique}_{position}")
        blob_hash = items.blob_hash(content) if "encrypted_content" in content else None
        rows.append((api_key_id, position, is_output, item_id, issuer, blob_hash, payload))
    return rows


def insert_snapshot(
    database: peewee.Database,
    snapshot: NewSnapshot,
    conversation: int,
    metadata: Mapping[str, Mapping[str, Any]],
    ordinal: int,
) -> int:
    """Insert a snapshot with its items, and return its row id. Part of a transaction.

    :param conversation: row id.
    :param metadata: by plugin.
    :param ordinal: its number among the children of its parent; 0 if it has none.
    :raises ValueError: ``metadata`` cannot be stored as JSON.
    """
    columns = {"conversation_id": conversation, "ordinal": ordinal, "metadata_json": _encode_metadata(metadata)}
    row = insert(database, "responses_snapshots", {**snapshot.row, **columns})
    insert_all(database, "responses_items", ITEM_COLUMNS, [(row, *values) for values in snapshot.item_rows])
    return row


def mark_used(database: peewee.Database, conversation: int, now: int, added: int = 0) -> None:
    """Update the last use of a conversation, unless a later one is stored, and its stored size.

    This locks the conversation until the transaction ends. Every transaction that changes its snapshots calls it first,
    or ``add_stored_bytes``, so that two of them cannot deadlock.

    :param conversation: its row id.
    :param now: Unix time in seconds.
    :param added: bytes that are added; negative if some are deleted.
    """
    changes = "used_at = CASE WHEN used_at > ? THEN used_at ELSE ? END, stored_bytes = stored_bytes + ?"
    execute(database, f"UPDATE responses_conversations SET {changes} WHERE id = ?", now, now, added, conversation)


def add_stored_bytes(database: peewee.Database, conversation: int, added: int) -> None:
    """Store how much a conversation stores, if its last use need not be stored again; locks it as ``mark_used`` does.

    :param conversation: its row id.
    """
    # Without ``used_at``: SQLite rewrites the index of every column that a statement sets.
    changes = "stored_bytes = stored_bytes + ?"
    execute(database, f"UPDATE responses_conversations SET {changes} WHERE id = ?", added, conversation)


def _history_bytes(parent: Snapshot | None, mode: str, texts: Sequence[bytes]) -> int | None:
    """Return the bytes of a new history; None if those of its parent are unknown."""
    before = parent.history_bytes if parent and mode == "append" else 0
    return None if before is None else before + sum(map(len, texts))


def _encode_metadata(metadata: Mapping[str, Mapping[str, Any]]) -> str:
    """:raises ValueError: the metadata of a plugin is not a JSON object."""
    for name, own in metadata.items():
        if not isinstance(own, dict):
            raise ValueError(f"the metadata of plugin {name!r} is not an object")
    return jsontext.dumps(dict(metadata)).decode()
