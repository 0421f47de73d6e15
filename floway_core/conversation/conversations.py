"""Conversations with an id: a tree of snapshots like any other, with one snapshot as its head.

The next turn continues the head, and becomes the head when it is stored. So a conversation and a chain of previous
responses have the same form. A running turn locks the conversation, so that turns run one after the other.
"""

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any

import peewee

from floway_core.conversation.payloads import parse_object, storable_id
from floway_core.conversation.records import Conversation
from floway_core.conversation.snapshots import ROW_BYTES, mark_used
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.storage import turn_leases
from floway_core.storage.db import DATABASE_ERRORS, execute, insert, lock_row, select, transaction
from floway_core.storage.leases import Leases

log = logging.getLogger("floway.conversations")

_CONVERSATION = """
SELECT id, public_id, created_at, metadata_json, used_at, head_id FROM responses_conversations
WHERE public_id = ? AND api_key_id = ? AND used_at >= ?
"""


def create(database: peewee.Database, api_key_id: str, metadata: Mapping[str, Any]) -> Conversation:
    """Create an empty conversation."""
    now, text = int(time.time()), jsontext.dumps(metadata).decode()
    row = {
        "api_key_id": api_key_id,
        "used_at": now,
        "stored_bytes": ROW_BYTES + len(text),
        "public_id": f"conv_{uuid.uuid4().hex}",
        "created_at": now,
        "metadata_json": text,
    }
    with transaction(database):
        row_id = insert(database, "responses_conversations", row)
    return Conversation(row_id, str(row["public_id"]), now, metadata, now, None)


def find(database: peewee.Database, api_key_id: str, conversation_id: str, oldest: int) -> Conversation:
    """Return a conversation.

    :param oldest: conversations not used since this Unix second have expired.
    :raises GatewayError: 404: its id is unknown, malformed, expired or of another key.
    """
    rows = select(database, _CONVERSATION, storable_id(conversation_id) or "", api_key_id, oldest)
    if not rows:
        raise conversation_not_found(conversation_id)
    row, public_id, created_at, metadata, used_at, head = rows[0]
    metadata = parse_object(metadata, "responses_conversations.metadata_json", row)
    return Conversation(row, public_id, created_at, metadata, used_at, head)


def replace_metadata(database: peewee.Database, conversation: Conversation, metadata: Mapping[str, Any]) -> None:
    """Replace the metadata of a conversation, also while a turn runs in it.

    :raises GatewayError: 404, it has been deleted meanwhile.
    """
    text = jsontext.dumps(metadata).decode()
    with transaction(database):
        before = jsontext.dumps(dict(_lock_row(database, conversation).metadata))
        mark_used(database, conversation.conversation, int(time.time()), len(text) - len(before))
        sql = "UPDATE responses_conversations SET metadata_json = ? WHERE id = ?"
        execute(database, sql, text, conversation.conversation)


# --------------------------------------------------------------------------------------------------------------- locks
def lock_idle(database: peewee.Database, conversation: Conversation) -> Conversation:
    """Lock the row of a conversation until the transaction ends, and return its current state.

    :raises GatewayError: 409, a turn runs in it; 404, it has been deleted meanwhile.
    """
    present = _lock_row(database, conversation)
    holders = select(database, "SELECT locked_by FROM responses_conversations WHERE id = ?", present.conversation)
    holder = holders[0][0]
    if holder is not None:
        if turn_leases.is_alive(database, holder):
            raise _locked(conversation.id)
        turn_leases.delete(database, holder)
    return present


def _lock_row(database: peewee.Database, conversation: Conversation) -> Conversation:
    """:raises GatewayError: 404, it has been deleted meanwhile."""
    # An UPDATE instead of FOR UPDATE, so that PostgreSQL evaluates the following statements after the lock.
    sql = "UPDATE responses_conversations SET used_at = used_at WHERE id = ? AND public_id = ? RETURNING api_key_id"
    rows = execute(database, sql, conversation.conversation, conversation.id).fetchall()
    if not rows:
        raise conversation_not_found(conversation.id)
    return find(database, rows[0][0], conversation.id, 0)


class ConversationLock:
    """Locks a conversation while a turn runs in it."""

    def __init__(
        self, database: peewee.Database, leases: Leases, api_key_id: str, conversation: Conversation, response_id: str
    ) -> None:
        """Lock a conversation.

        :param leases: renew the lock while the turn runs.
        :param response_id: the id of the response that the turn creates.
        :raises GatewayError: 409, another turn runs in it; 404, it has been deleted meanwhile.
        """
        self._database = database
        self._leases = leases
        self._conversation = conversation
        self._response_id = response_id
        try:
            with transaction(database):
                lock_row(database, "api_keys", api_key_id)
                lock_idle(database, conversation)
                turn_leases.insert(database, api_key_id, response_id)
                sql = "UPDATE responses_conversations SET locked_by = ? WHERE id = ?"
                execute(database, sql, response_id, conversation.conversation)
        except DATABASE_ERRORS:
            leases.delete_later(response_id)  # the lock may be stored nevertheless
            raise
        leases.acquire(response_id)

    def release(self) -> None:
        """Unlock the conversation, unless the commit has done so. Never raises: a lock without its lease is void."""
        self._leases.release(self._response_id)
        try:
            sql = "SELECT 1 FROM responses_conversations WHERE id = ? AND locked_by = ?"
            if select(self._database, sql, self._conversation.conversation, self._response_id):
                with transaction(self._database):
                    unlock(self._database, self._conversation, self._response_id)
        except DATABASE_ERRORS as error:
            self._leases.delete_later(self._response_id)
            log.warning("Conversation %s is locked until the database works again: %s", self._conversation.id, error)


def unlock(database: peewee.Database, conversation: Conversation, response_id: str) -> None:
    """End the lock of a turn. Part of a transaction."""
    sql = "UPDATE responses_conversations SET locked_by = NULL WHERE id = ? AND locked_by = ?"
    execute(database, sql, conversation.conversation, response_id)
    turn_leases.delete(database, response_id)


def advance(database: peewee.Database, conversation: Conversation, response_id: str, snapshot: int) -> None:
    """Make the snapshot that a turn has stored the head, and end the lock. Part of a transaction.

    :param response_id: the id of the response that the turn has created.
    :param snapshot: row id.
    :raises GatewayError: 409, the turn has lost its lock, and another one may have changed the conversation.
    """
    sql = "UPDATE responses_conversations SET head_id = ? WHERE id = ? AND locked_by = ? RETURNING id"
    if not execute(database, sql, snapshot, conversation.conversation, response_id).fetchall():
        raise _changed(conversation.id)
    unlock(database, conversation, response_id)


# -------------------------------------------------------------------------------------------------------------- errors
def conversation_not_found(conversation_id: str) -> GatewayError:
    """Return the 404 for a conversation that does not exist."""
    return GatewayError(404, f"Conversation with id '{conversation_id[:100]}' not found.")


def _locked(conversation_id: str) -> GatewayError:
    message = f"Another request is running in the conversation '{conversation_id}'. Try again when it has ended."
    return GatewayError(409, message, code="conversation_locked", param="conversation", headers={"retry-after": "1"})


def _changed(conversation_id: str) -> GatewayError:
    message = f"The conversation '{conversation_id}' has been changed or deleted while the response was created."
    return GatewayError(409, message, code="conversation_changed", param="conversation")
