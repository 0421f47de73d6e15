"""The stored conversations of an API key, without their texts: list them in pages, delete one."""

import time
from dataclasses import dataclass

import peewee

from floway_core.conversation import quota
from floway_core.conversation.payloads import storable_id
from floway_core.errors import GatewayError
from floway_core.runtime.gateway import Gateway
from floway_core.storage import keys
from floway_core.storage.db import execute, placeholders, select, transaction
from floway_core.storage.disk_reserve import delete_despite_full_disk

PAGE_SIZE = 50

_PAGE = """
SELECT id, public_id, created_at, used_at, stored_bytes FROM responses_conversations
WHERE api_key_id = ? AND id < ? ORDER BY id DESC LIMIT ?
"""

_TURNS = """
SELECT conversation_id, COUNT(*), MIN(created_at), MAX(id) FROM responses_snapshots
WHERE conversation_id IN ({}) GROUP BY conversation_id
"""

_FIND = """
SELECT id FROM responses_conversations WHERE public_id = ? AND api_key_id = ?
UNION SELECT conversation_id FROM responses_snapshots WHERE response_id = ? AND api_key_id = ?
"""

_DELETE_BACKGROUND = """
DELETE FROM background_responses WHERE response_id IN (
    SELECT response_id FROM responses_snapshots WHERE conversation_id = ?
)
"""


@dataclass(frozen=True)
class StoredConversation:
    """A conversation in a list."""

    id: str
    """The id by which clients know it; for a conversation without one, the id of its newest response."""
    turns: int
    """Stored responses, with those of all forks."""
    stored_bytes: int
    """About what it takes in the database."""
    created_at: int
    """Unix time in seconds of its oldest stored response."""
    used_at: int
    """Unix time in seconds of its last use, up to an hour late."""


@dataclass(frozen=True)
class Page:
    """A part of the list."""

    conversations: tuple[StoredConversation, ...]
    next: int | None
    """Where the next page begins; None if this is the last one."""


def stored_bytes(database: peewee.Database, key_name: str) -> int:
    """Return about how many bytes the conversations of a key take.

    :raises GatewayError: 404, there is no such key.
    """
    return quota.stored_bytes(database, keys.find(database, key_name).id)


def list_page(database: peewee.Database, key_name: str, before: int | None = None, size: int = PAGE_SIZE) -> Page:
    """List conversations of a key, the newest first. A page costs the same wherever it is.

    :param before: ``next`` of the page before; None for the first one.
    :raises GatewayError: 404, there is no such key.
    """
    key_id = keys.find(database, key_name).id
    limit = 2**63 - 1 if before is None else before
    rows = select(database, _PAGE, key_id, limit, size + 1)
    shown = rows[:size]
    turns = _read_turns(database, [row[0] for row in shown])
    conversations = []
    for row_id, public_id, created_at, used_at, stored in shown:
        count, first_at, response_id = turns.get(row_id, (0, None, ""))
        conversations.append(
            StoredConversation(public_id or response_id, count, stored, created_at or first_at or used_at, used_at)
        )
    return Page(tuple(conversations), shown[-1][0] if len(rows) > size else None)


def _read_turns(database: peewee.Database, rows: list[int]) -> dict[int, tuple[int, int, str]]:
    """Return the number of snapshots, the time of the oldest and the id of the newest response, by conversation."""
    if not rows:
        return {}
    counts = select(database, _TURNS.format(placeholders(rows)), *rows)
    newest = [snapshot for _, _, _, snapshot in counts]
    sql = f"SELECT id, response_id FROM responses_snapshots WHERE id IN ({placeholders(newest)})"
    ids: dict[int, str] = dict(select(database, sql, *newest)) if newest else {}
    return {row: (count, first_at, ids.get(snapshot, "")) for row, count, first_at, snapshot in counts}


def delete(gateway: Gateway, key_name: str, conversation_id: str) -> None:
    """Delete a conversation with all its responses. A turn that runs in it fails when it ends.

    :param conversation_id: as listed, or the id of any of its responses.
    :raises GatewayError: 404, the key has no such conversation.
    """
    database = gateway.services.database
    key_id = keys.find(database, key_name).id
    stored_id = storable_id(conversation_id) or ""
    rows = select(database, _FIND, stored_id, key_id, stored_id, key_id)
    if not rows:
        message = f"The key {key_name!r} has no conversation {conversation_id[:100]!r}."
        raise GatewayError(404, message, param="conversation")
    (row,) = rows[0]

    def remove() -> None:
        with transaction(database):
            now = int(time.time())
            # First, as in every transaction that changes its snapshots, so that two of them cannot deadlock.
            execute(database, "UPDATE responses_conversations SET used_at = ? WHERE id = ?", now, row)
            execute(database, _DELETE_BACKGROUND, row)
            execute(database, "DELETE FROM responses_conversations WHERE id = ? AND api_key_id = ?", row, key_id)

    delete_despite_full_disk(database, remove)
    gateway.history_cache.forget(row)
