"""Store a response as a snapshot with its items, in one transaction."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import peewee

from floway_core.conversation import background, conversations, restoring, retention
from floway_core.conversation.cache import HistoryCache, PackedHistory
from floway_core.conversation.records import Conversation, Snapshot, Turn
from floway_core.conversation.retention import USE_PRECISION_SECONDS
from floway_core.conversation.snapshots import (
    SAME_SNAPSHOT,
    NewItem,
    NewSnapshot,
    add_stored_bytes,
    encode_snapshot,
    insert_snapshot,
    mark_used,
)
from floway_core.errors import GatewayError
from floway_core.protocol import items
from floway_core.protocol.input_items import ready_ids
from floway_core.storage.db import DATABASE_ERRORS, insert, lock_row, select, transaction, write

log = logging.getLogger("floway.conversations")


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


class OrdinalClaim:
    """Reserves the ordinal of one turn among the children of the snapshot that it continues. Later calls return the
    same number."""

    def __init__(self, database: peewee.Database, snapshot: Snapshot) -> None:
        self._database, self._snapshot = database, snapshot
        self._ordinal: int | None = None
        self._is_committed = False

    @property
    def is_made(self) -> bool:
        """Whether it has been called."""
        return self._ordinal is not None

    def __call__(self) -> int:
        """:raises PreviousResponseDeleted: as ``claim_ordinal``."""
        if self._ordinal is None:
            self._ordinal = claim_ordinal(self._database, self._snapshot)
            self._is_committed = not self._database.in_transaction()
        return self._ordinal

    def release(self) -> None:
        """Give the ordinal back, because the turn has failed: its client may try again. If another turn has a higher
        one, nothing happens. A failure of the database is only logged."""
        if not self._is_committed:  # nothing was reserved, or the transaction has been rolled back
            return
        release = f"UPDATE responses_snapshots SET ordinals = ordinals - 1 WHERE {SAME_SNAPSHOT} AND ordinals = ?"
        try:
            write(
                self._database, f"{release} RETURNING id", self._snapshot.row, self._snapshot.response_id, self._ordinal
            )
        except DATABASE_ERRORS as error:
            log.warning("An ordinal could not be released: %s", error)
        self._ordinal, self._is_committed = None, False


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
    """Store the new items of a turn, in one transaction. Afterwards any worker can continue the response.

    :param cache: gets the new history, if it contains the history that the turn continues.
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
        # The client has not named the deleted response: it has sent the whole history.
        _commit(database, cache, turn.as_root(), upstream_id, response, ordinal, hook)


def snapshot_mode(response: Mapping[str, Any]) -> str:
    """Return ``replace`` if the response compacts the history, else ``append``."""
    return _mode_of(_output_items(response))


def _output_items(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [item for item in response["output"] if isinstance(item, dict)]


def _mode_of(output: Sequence[dict[str, Any]]) -> str:
    return "replace" if items.replaces_history(output) else "append"


def _commit(
    database: peewee.Database,
    cache: HistoryCache,
    turn: Turn,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int] | None,
    hook: MetadataHook,
) -> None:
    output, parent = _output_items(response), turn.previous
    mode = _mode_of(output)
    new = _encode_turn(turn, upstream_id, response, output, mode)
    with transaction(database):
        conversation = _lock_conversation(database, turn, new.stored_bytes)
        number = _number_child(database, parent, ordinal) if parent else 0
        snapshot = insert_snapshot(database, new, conversation, hook(), number)
        if turn.visible and mode == "append":
            restoring.store_hashes(database, turn.api_key_id, snapshot, turn.visible, output)
        if turn.is_background:
            background.complete(database, turn.response_id, response.get("status"))
        if turn.conversation:
            conversations.advance(database, turn.conversation, turn.response_id, snapshot)
            if parent and mode == "replace":  # what was only a part of the conversation is so no longer
                retention.delete_unneeded(database, parent.row)
    # A client that resends the history rarely needs the cache, unless the stored history replaces its own.
    if parent and (turn.explicit_previous or turn.visible):
        beginning = cache.get(parent) if mode == "append" else None
        if beginning or mode == "replace":
            cache.put(conversation, _pack(turn.response_id, new, beginning))


def _pack(response_id: str, new: NewSnapshot, beginning: PackedHistory | None) -> PackedHistory:
    """Return the history that ends with a new snapshot.

    :param beginning: the history that it extends.
    """
    contents, issuers = [item.content for item in new.items], [item.issuer for item in new.items]
    types = map(items.item_type, contents)
    return PackedHistory(response_id, new.texts, issuers, types, beginning, ready_ids(contents))


def _encode_turn(
    turn: Turn, upstream_id: str | None, response: Mapping[str, Any], output: list[dict[str, Any]], mode: str
) -> NewSnapshot:
    """Encode the snapshot of a response: the new items of its turn, unless it replaces the history, and its output.

    :param output: the items of ``response``.
    :param mode: as ``snapshot_mode``.
    """
    parent, envelope = turn.previous, dict(response)
    del envelope["output"]
    new_items: list[NewItem] = []
    if mode == "replace":
        hash_before = items.START
    else:
        new_items = [*map(NewItem, turn.new_items, turn.new_issuers)]
        hash_before = turn.history_hash or items.extended_hash(
            parent.history_hash if parent else items.START, turn.new_items
        )
    return encode_snapshot(
        turn.api_key_id,
        turn.response_id,
        parent,
        [*new_items, *(NewItem(item, upstream_id, is_output=True) for item in output)],
        envelope=envelope,
        history_hash=items.extended_hash(hash_before, output),
        mode=mode,
        is_hidden=not turn.store,
    )


def _lock_conversation(database: peewee.Database, turn: Turn, added: int) -> int:
    """Lock the row of the conversation that the turn continues, or insert a new one; return its row id.

    :param added: bytes that the turn adds.
    """
    now, parent = int(time.time()), turn.previous
    if parent is None and turn.conversation is None:
        row = {"api_key_id": turn.api_key_id, "used_at": now, "stored_bytes": added}
        return insert(database, "responses_conversations", row)
    continued: Snapshot | Conversation = parent or turn.conversation  # type: ignore[assignment]  # see above
    conversation = continued.conversation
    lock_row(database, "api_keys", turn.api_key_id)
    if continued.used_at >= now - USE_PRECISION_SECONDS:
        add_stored_bytes(database, conversation, added)
    else:
        mark_used(database, conversation, now, added)
    return conversation


def _number_child(database: peewee.Database, parent: Snapshot, ordinal: Callable[[], int] | None) -> int:
    """Return the ordinal of a new child of ``parent``, whose conversation is locked.

    :raises PreviousResponseDeleted: ``parent`` has been deleted.
    """
    if not isinstance(ordinal, OrdinalClaim) or ordinal.is_made:  # otherwise the claim finds out
        exists = f"SELECT 1 FROM responses_snapshots WHERE {SAME_SNAPSHOT}"
        if not select(database, exists, parent.row, parent.response_id):
            raise PreviousResponseDeleted
    return ordinal() if ordinal else 0
