"""Delete responses, conversations with an id, and expired conversations."""

import logging
import time

import peewee

from floway_core.conversation import background
from floway_core.conversation.conversations import lock_idle
from floway_core.conversation.load import expiry_cutoff
from floway_core.conversation.records import Conversation, Snapshot
from floway_core.conversation.snapshots import ROW_BYTES, SAME_SNAPSHOT, mark_used
from floway_core.protocol import jsontext
from floway_core.storage import keys, turn_leases
from floway_core.storage.db import DATABASE_ERRORS, execute, placeholders, select, transaction
from floway_core.storage.disk_reserve import delete_despite_full_disk, fill_reserve, is_full
from floway_core.storage.periodic import start_periodic
from floway_core.storage.stepwise import delete_in_steps
from floway_core.storage.tables import Conversations, Snapshots

log = logging.getLogger("floway.retention")

USE_PRECISION_SECONDS = 3600
"""How old the stored last use of a conversation may be, so that reading rarely writes."""

SWEEP_INTERVAL_SECONDS = 3600

BATCH_SIZE = 200
"""Conversations that are deleted together."""

USE_HAS_ENDED = -1
"""The last use of a conversation that is being deleted. Nothing finds it any more."""


def mark_used_if_due(database: peewee.Database, snapshot: Snapshot | Conversation) -> None:
    """Store that a conversation, or the conversation of a snapshot, was used now, unless the stored time is recent."""
    now = int(time.time())
    if snapshot.used_at >= now - USE_PRECISION_SECONDS:
        return
    try:
        with transaction(database):
            same = (Conversations.id == snapshot.conversation) & (Conversations.used_at == snapshot.used_at)
            Conversations.update(used_at=now).where(same).execute(database)
    except peewee.OperationalError as error:
        if not is_full(error):  # on a full disk, what is stored can still be read and deleted
            raise


def delete_response(database: peewee.Database, snapshot: Snapshot) -> None:
    """Delete a response, so that it can neither be read nor continued.

    Its items are kept as long as the histories of its children need them. Works on a full disk, too.
    """
    delete_despite_full_disk(database, lambda: _delete_response(database, snapshot))


def _delete_response(database: peewee.Database, snapshot: Snapshot) -> None:
    with transaction(database):
        if not select(
            database, f"SELECT 1 FROM responses_snapshots WHERE {SAME_SNAPSHOT}", snapshot.row, snapshot.response_id
        ):
            return  # deleted already; the row id of its conversation may have been reused
        now = int(time.time())
        mark_used(database, snapshot.conversation, now)
        same = (Snapshots.id == snapshot.row) & (Snapshots.response_id == snapshot.response_id)
        if not Snapshots.update(deleted_at=now).where(same).execute(database):
            return  # deleted already
        delete_unneeded(database, snapshot.row)


def delete_conversation(database: peewee.Database, conversation: Conversation) -> None:
    """Remove the id of a conversation. Its responses are kept; other snapshots only if a response needs them.

    :raises GatewayError: 409, a turn runs in it; 404, it has been deleted meanwhile.
    """

    def delete() -> None:
        with transaction(database):
            present = lock_idle(database, conversation)
            size = ROW_BYTES + len(jsontext.dumps(dict(present.metadata)))
            mark_used(database, present.conversation, int(time.time()), -size)
            changes = "public_id = NULL, created_at = NULL, metadata_json = NULL, head_id = NULL, locked_by = NULL"
            execute(database, f"UPDATE responses_conversations SET {changes} WHERE id = ?", present.conversation)
            delete_unneeded(database, present.head)
            _delete_if_empty(database, present.conversation)

    delete_despite_full_disk(database, delete)


def delete_unneeded(database: peewee.Database, row: int | None) -> None:
    """Delete the rows of a deleted snapshot and of its ancestors that are not needed. Part of a transaction."""
    while row is not None:
        row = _delete_if_unneeded(database, row)


def _delete_if_unneeded(database: peewee.Database, row: int) -> int | None:
    """Delete the row of a deleted snapshot, unless the history of a child or a conversation with an id needs it.

    :returns: its parent, which may be unneeded now; None if there is nothing more to do.
    """
    children = Snapshots.parent == row
    if Snapshots.select().where(children, Snapshots.mode == "append").exists(database):
        return None
    rows = select(database, "SELECT parent_id, conversation_id, deleted_at FROM responses_snapshots WHERE id = ?", row)
    parent: int | None
    parent, conversation, deleted_at = rows[0] if rows else (None, None, None)
    if deleted_at is None:  # not deleted by a client, or removed already by a concurrent deletion
        return None
    if select(database, "SELECT 1 FROM responses_conversations WHERE id = ? AND head_id = ?", conversation, row):
        return None
    _subtract(database, row, conversation)
    Snapshots.update(parent=None).where(children).execute(database)
    execute(database, "DELETE FROM responses_snapshots WHERE id = ?", row)
    _delete_if_empty(database, conversation)
    return parent


def _delete_if_empty(database: peewee.Database, conversation: int) -> None:
    """Delete the row of a conversation that has neither snapshots nor an id."""
    if not Snapshots.select().where(Snapshots.conversation == conversation).exists(database):
        execute(database, "DELETE FROM responses_conversations WHERE id = ? AND public_id IS NULL", conversation)


def _subtract(database: peewee.Database, row: int, conversation: int) -> None:
    """Subtract the size of a snapshot and its items from the stored size of their conversation."""
    items = f"SELECT COALESCE(SUM(LENGTH(payload) + {ROW_BYTES}), 0) FROM responses_items WHERE snapshot_id = ?"
    size = f"({items}) + (SELECT LENGTH(envelope) + {ROW_BYTES} FROM responses_snapshots WHERE id = ?)"
    sql = f"UPDATE responses_conversations SET stored_bytes = stored_bytes - ({size}) WHERE id = ?"
    execute(database, sql, row, row, conversation)


def sweep(database: peewee.Database, retention_days: int) -> int:
    """Delete the conversations that have not been used for ``retention_days``; return their number."""
    oldest, deleted_count = expiry_cutoff(retention_days), 0
    while rows := _end_use(database, oldest):
        conversations = f"({placeholders(rows)})"
        snapshots = f"(SELECT id FROM responses_snapshots WHERE conversation_id IN {conversations})"
        delete_in_steps(database, "responses_items", f"snapshot_id IN {snapshots}", *rows, size="LENGTH(payload)")
        delete_in_steps(
            database,
            "responses_snapshots",
            f"conversation_id IN {conversations}",
            *rows,
            size="LENGTH(envelope)",
            order="ORDER BY id DESC",  # children first
        )
        deleted_count += delete_in_steps(database, "responses_conversations", f"id IN {conversations}", *rows)
    return deleted_count


def _end_use(database: peewee.Database, oldest: int) -> list[int]:
    """Make sure that some expired conversations are not used again while they are deleted; return their row ids.

    :param oldest: conversations not used since this Unix second have expired.
    """
    with transaction(database):
        expired = Conversations.select(Conversations.id).where(Conversations.used_at < oldest).limit(BATCH_SIZE)
        if database.for_update:  # a concurrent sweeper skips locked rows
            expired = expired.for_update(skip_locked=True)
        rows = [row for (row,) in expired.tuples().execute(database)]
        if rows:
            sql = f"UPDATE responses_conversations SET used_at = ? WHERE id IN ({placeholders(rows)})"
            execute(database, sql, USE_HAS_ENDED, *rows)
    return rows


def start_sweeping(database: peewee.Database, retention_days: int) -> None:
    """Sweep regularly, in a thread that ends with the process."""

    def sweep_and_log() -> None:
        fill_reserve(database)
        try:
            keys.finish_deletions(database)
            background.sweep(database, expiry_cutoff(retention_days))
            turn_leases.sweep(database)
            if deleted := sweep(database, retention_days):
                log.info("Deleted %d expired conversations", deleted)
        except DATABASE_ERRORS as error:
            log.warning("Expired conversations could not be deleted: %s", error)

    start_periodic("retention", sweep_and_log, SWEEP_INTERVAL_SECONDS, starts_at_once=True)
