"""Add items to a conversation with an id, or remove items, between two turns.

Snapshots never change. Added items become a new snapshot that is not a response. If an item is removed, a new snapshot
contains the items after it and becomes the head; the old snapshots are kept as long as a response needs them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import peewee
from uuid6 import uuid7

from floway_core.conversation import load, retention
from floway_core.conversation.conversations import lock_idle
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.load import StoredItem
from floway_core.conversation.records import Conversation, History, Snapshot
from floway_core.conversation.references import resolve_items
from floway_core.conversation.snapshots import NewItem, NewSnapshot, encode_snapshot, insert_snapshot, mark_used
from floway_core.errors import GatewayError
from floway_core.protocol import items
from floway_core.storage.db import execute, lock_row, transaction
from floway_core.storage.disk_reserve import delete_despite_full_disk


def list_items(database: peewee.Database, conversation: Conversation, limit: InputLimit) -> list[StoredItem]:
    """Return the items that the next turn continues, oldest first.

    :param limit: reserves memory for them.
    """
    head = load.get_head(database, conversation)
    return load.load_stored_items(database, head, limit) if head else []


def find_item(database: peewee.Database, conversation: Conversation, item_id: str, limit: InputLimit) -> StoredItem:
    """Return one of the items of a conversation.

    :param limit: as in ``list_items``.
    :raises GatewayError: 404, it has none with this id.
    """
    return _find_item(conversation, list_items(database, conversation, limit), item_id)


def _find_item(conversation: Conversation, items: Sequence[StoredItem], item_id: str) -> StoredItem:
    """:raises GatewayError: 404, none of ``items`` has this id."""
    for item in items:
        if item.id == item_id:
            return item
    message = f"Item with id '{item_id[:100]}' not found in conversation with id '{conversation.id}'."
    raise GatewayError(404, message)


def add_items(
    database: peewee.Database,
    api_key_id: str,
    conversation: Conversation,
    new_items: Sequence[dict[str, Any]],
    oldest: int,
    limit: InputLimit,
) -> list[dict[str, Any]]:
    """Add items at the end of a conversation, and return them as the API lists them.

    :param new_items: may be references to stored items.
    :param oldest: as in ``load.find_snapshot``.
    :param limit: counts the bytes of referenced items, and reserves memory for the whole conversation.
    :raises GatewayError: 404, an item that is referred to does not exist; 409, a turn runs in the conversation.
    """
    resolved = resolve_items(database, api_key_id, new_items, History(), oldest, limit)
    new = [NewItem(item, issuer) for item, issuer in zip(resolved.items, resolved.issuers, strict=True)]
    new = [item for item in new if item.content.get("type") != items.TRIGGER]
    with transaction(database):
        lock_row(database, "api_keys", api_key_id)
        present = lock_idle(database, conversation)
        head = load.get_head(database, present)
        limit.reserve(head.history_bytes or 0 if head else 0)  # for the list below: without it nothing is added
        if new:
            present = _append(database, api_key_id, present, head, head, new)
    reserved = InputLimit()
    added = list_items(database, present, reserved)[-len(new) :] if new else []
    return [item.listed(reserved) for item in added]


def delete_item(
    database: peewee.Database, api_key_id: str, conversation: Conversation, item_id: str, limit: InputLimit
) -> Conversation:
    """Remove an item from a conversation. Responses that have it in their history keep it.

    :param limit: as in ``list_items``.
    :raises GatewayError: 404, the conversation has no such item; 409, a turn runs in it.
    """

    def delete() -> Conversation:
        with transaction(database):
            lock_row(database, "api_keys", api_key_id)
            present = lock_idle(database, conversation)
            history, old = list_items(database, present, limit), load.get_head(database, present)
            removed = _find_item(present, history, item_id)
            start = next(number for number, item in enumerate(history) if item.owner == removed.owner)
            parent = load.get_owner(database, present, history[start - 1].owner) if start else None
            kept = [
                NewItem(item.decode(limit), item.issuer, id=item.stored_id)
                for item in history[start:]
                if item.row != removed.row
            ]
            if kept:
                present = _append(database, api_key_id, present, parent, old, kept)
            else:
                _set_head(database, present, parent.row if parent else None)
            retention.delete_unneeded(database, old.row if old else None)
            return present

    return delete_despite_full_disk(database, delete)


def _append(
    database: peewee.Database,
    api_key_id: str,
    conversation: Conversation,
    parent: Snapshot | None,
    head: Snapshot | None,
    new_items: Sequence[NewItem],
) -> Conversation:
    """Insert a snapshot that is not a response, and make it the head. Part of a transaction.

    :param parent: the snapshot that it extends.
    :param head: the current head. The new snapshot inherits its metadata of plugins.
    :returns: the conversation with its new head.
    """
    contents = [item.content for item in new_items]
    before = parent.history_hash if parent else items.START
    new: NewSnapshot = encode_snapshot(
        api_key_id,
        f"resp_{uuid7().hex}",
        parent,
        new_items,
        envelope={},
        history_hash=items.extended_hash(before, contents),
        is_hidden=True,
    )
    mark_used(database, conversation.conversation, int(time.time()), new.stored_bytes)
    metadata = head.metadata if head else {}
    row = insert_snapshot(database, new, conversation.conversation, metadata, 0)
    return _set_head(database, conversation, row)


def _set_head(database: peewee.Database, conversation: Conversation, row: int | None) -> Conversation:
    sql = "UPDATE responses_conversations SET head_id = ?, locked_by = NULL WHERE id = ?"
    execute(database, sql, row, conversation.conversation)
    return replace(conversation, head=row)
