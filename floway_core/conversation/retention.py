"""How long conversations are kept."""

import logging
import threading
import time

import peewee

from floway_core.conversation.commit import SAME, mark_used
from floway_core.conversation.load import expiry_cutoff
from floway_core.conversation.records import Snapshot
from floway_core.storage.db import DATABASE_ERRORS, select, transaction
from floway_core.storage.tables import Conversations, Snapshots

log = logging.getLogger("floway.retention")

TOUCH_INTERVAL = 3600
"""Seconds by which the noted last use of a conversation may lag behind, so that reading one rarely writes."""

SWEEP_INTERVAL = 3600
"""Seconds between two sweeps."""

BATCH = 200
"""Conversations deleted in one transaction, so that nobody waits long for the database."""


def mark_used_if_due(database: peewee.Database, snapshot: Snapshot) -> None:
    """Note that the conversation of a snapshot was used just now."""
    now = int(time.time())
    if snapshot.used_at < now - TOUCH_INTERVAL:
        with database.connection_context():
            same = (Conversations.id == snapshot.conversation) & (Conversations.used_at == snapshot.used_at)
            Conversations.update(used_at=now).where(same).execute(database)


def delete_response(database: peewee.Database, snapshot: Snapshot) -> None:
    """Forget a response: it can neither be read nor continued any more.

    What its children need of it stays until the last of them is gone.
    """
    with transaction(database):
        if not select(database, f"SELECT 1 FROM responses_snapshots WHERE {SAME}", snapshot.row, snapshot.response_id):
            return  # it is gone already, and its conversation may be another one by now
        now = int(time.time())
        mark_used(database, snapshot.conversation, now)
        same = (Snapshots.id == snapshot.row) & (Snapshots.response_id == snapshot.response_id)
        if not Snapshots.update(deleted_at=now).where(same).execute(database):
            return  # it is gone already
        row: int | None = snapshot.row
        while row is not None:
            row = _delete_if_unneeded(database, row)


def _delete_if_unneeded(database: peewee.Database, row: int) -> int | None:
    """Remove a deleted snapshot that has no children, or only such as start the history anew.

    :returns: its parent, which may be unneeded now, or None when there is no more to do.
    """
    children = Snapshots.parent == row
    if Snapshots.select().where(children, Snapshots.mode == "append").exists(database):
        return None
    found = Snapshots.select(Snapshots.parent, Snapshots.conversation, Snapshots.deleted_at).where(Snapshots.id == row)
    parent, conversation, deleted_at = next(iter(found.tuples().execute(database)), (None, None, None))
    if deleted_at is None:  # wanted, or removed already by who deleted it at the same time
        return None
    Snapshots.update(parent=None).where(children).execute(database)
    Snapshots.delete().where(Snapshots.id == row).execute(database)
    if not Snapshots.select().where(Snapshots.conversation == conversation).exists(database):
        Conversations.delete().where(Conversations.id == conversation).execute(database)
    return parent


def sweep(database: peewee.Database, retention_days: int) -> int:
    """Delete the conversations that have not been used for ``retention_days``, and return how many there were."""
    oldest, deleted = expiry_cutoff(retention_days), 0
    while True:
        with transaction(database):
            expired = Conversations.select(Conversations.id).where(Conversations.used_at < oldest).limit(BATCH)
            if database.for_update:  # nobody can use them now, and another sweeper takes others
                expired = expired.for_update(skip_locked=True)
            rows = [row for (row,) in expired.tuples().execute(database)]
            if rows:
                Conversations.delete().where(Conversations.id.in_(rows)).execute(database)
        deleted += len(rows)
        if len(rows) < BATCH:
            return deleted


def start_sweeping(database: peewee.Database, retention_days: int) -> threading.Thread:
    """Sweep now and then in a thread that ends with the process."""
    thread = threading.Thread(target=_sweep_forever, args=(database, retention_days), name="retention", daemon=True)
    thread.start()
    return thread


def _sweep_forever(database: peewee.Database, retention_days: int) -> None:
    while True:
        try:
            deleted = sweep(database, retention_days)
            if deleted:
                log.info("Deleted %d expired conversations", deleted)
        except DATABASE_ERRORS as error:
            log.warning("Expired conversations could not be deleted: %s", error)
        time.sleep(SWEEP_INTERVAL)
