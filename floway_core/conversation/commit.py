"""Writing: a snapshot with its items, in one transaction."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol

import peewee
from uuid6 import uuid7

from floway_core.conversation import payloads
from floway_core.conversation.rows import Turn
from floway_core.db import transaction
from floway_core.errors import GatewayError
from floway_core.models import ApiKeys, Conversations, Items, Snapshots
from floway_core.protocol import items, jsontext

ROWS_PER_INSERT = 100


class PreviousGone(GatewayError):
    """What a turn continues has been deleted while it ran."""

    def __init__(self) -> None:
        super().__init__(409, "The response that was to be continued has been deleted meanwhile.")


class MetadataHook(Protocol):
    """Lets the plugins have their say; runs inside the transaction."""

    def __call__(self, mode: str) -> dict[str, dict[str, Any]]:
        """:returns: the new snapshot's metadata, by plugin."""


def claim_ordinal(database: peewee.Database, snapshot_row: int) -> int:
    """The next ordinal for a child of a snapshot, from 1. No two callers anywhere get the same.

    :raises PreviousGone: the snapshot has been deleted.
    """
    claim = (
        Snapshots.update(ordinals=Snapshots.ordinals + 1)
        .where(Snapshots.id == snapshot_row)
        .returning(Snapshots.ordinals)
    )
    with database.connection_context(), transaction(database):
        row = next(iter(claim.tuples().execute(database)), None)
    if row is None:
        raise PreviousGone
    return row[0]


def commit(
    database: peewee.Database,
    turn: Turn,
    *,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int],
    hook: MetadataHook,
) -> None:
    """Store what a turn added, all of it or nothing. When it returns, any worker can continue the response.

    :param upstream_id: who issued the output; None when the gateway made it.
    :param response: the complete response object.
    :param ordinal: claims this snapshot's place among the children of its parent; not called for a root.
    :raises PreviousGone: the client continues by id what has been deleted while the turn ran.
    :raises ValueError: something is no JSON.
    """
    try:
        _commit(database, turn, upstream_id, response, ordinal, hook)
    except PreviousGone:
        if turn.named:
            raise
        # The client never spoke of the other response, and has sent everything that this one needs.
        alone = dataclasses.replace(turn, previous=None, added=items.lasting(item.body for item in turn.input))
        _commit(database, alone, upstream_id, response, ordinal, hook)


def _commit(
    database: peewee.Database,
    turn: Turn,
    upstream_id: str | None,
    response: dict[str, Any],
    ordinal: Callable[[], int],
    hook: MetadataHook,
) -> None:
    output = [item for item in response["output"] if isinstance(item, dict)]
    mode = "replace" if items.replaces_history(output) else "append"
    kept = [] if mode == "replace" else turn.added
    now = int(time.time())
    parent = turn.previous
    base = parent.history_hash if parent and mode == "append" else items.START
    envelope = payloads.encode({key: value for key, value in response.items() if key != "output"})
    rows = [
        *(_row(item, None, False) for item in kept),
        *(_row(item, upstream_id, True) for item in output),
    ]
    with database.connection_context(), transaction(database):
        if parent:
            conversation = parent.conversation
            _hold_key(database, turn.api_key_id)
            use(database, conversation, now)
            if not Snapshots.select().where(Snapshots.id == parent.row).exists(database):
                raise PreviousGone
        else:
            conversation = Conversations.insert(api_key=turn.api_key_id, used_at=now).execute(database)
        metadata = hook(mode)
        snapshot = Snapshots.insert(
            response_id=turn.response_id,
            api_key=turn.api_key_id,
            conversation=conversation,
            parent=parent.row if parent else None,
            mode=mode,
            depth=parent.depth + 1 if parent else 0,
            ordinal=ordinal() if parent else 0,
            ordinals=0,
            history_hash=[base, *items.extended_hashes(base, [*kept, *output])][-1],
            envelope=envelope,
            metadata_json=_checked(metadata),
            created_at=now,
        ).execute(database)
        owner = {"snapshot": snapshot, "api_key": turn.api_key_id}
        numbered = [{**row, **owner, "position": place} for place, row in enumerate(rows)]
        for start in range(0, len(numbered), ROWS_PER_INSERT):
            Items.insert_many(numbered[start : start + ROWS_PER_INSERT]).execute(database)


def use(database: peewee.Database, conversation: int, now: int) -> None:
    """Note a use. It also locks the conversation until the transaction ends: who changes its snapshots does this first,
    so that of two who do one waits for the other and none of them for both."""
    Conversations.update(used_at=now).where(Conversations.id == conversation).execute(database)


def _hold_key(database: peewee.Database, api_key_id: str) -> None:
    """Keep the API key from being deleted, before anything else is locked: its deletion takes the same order."""
    if database.for_update:  # elsewhere the whole database is locked
        list(ApiKeys.select(ApiKeys.id).where(ApiKeys.id == api_key_id).for_update("FOR KEY SHARE").execute(database))


def _checked(metadata: dict[str, dict[str, Any]]) -> str:
    """:raises ValueError: what a plugin wants to keep could not be read again."""
    for name, own in metadata.items():
        if not isinstance(own, dict):
            raise ValueError(f"the metadata of plugin {name!r} is no object")
    return jsontext.dumps(metadata).decode()


def _row(item: dict[str, Any], upstream_id: str | None, is_output: bool) -> dict[str, Any]:
    return {
        "is_output": is_output,
        "item_id": payloads.column_id(item.get("id")) or f"item_{uuid7().hex}",
        "upstream_id": upstream_id,
        "blob_hash": items.blob_hash(item),
        "payload": payloads.encode(item),
    }
