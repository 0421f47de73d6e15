"""Beginning a turn: from the request to everything the model is to see."""

from collections.abc import Mapping
from typing import Any

import peewee
from uuid6 import uuid7

from floway_core.conversation import load, retain
from floway_core.conversation.rows import Snapshot, StoredItem, Turn
from floway_core.errors import GatewayError
from floway_core.protocol import items


def begin(database: peewee.Database, api_key_id: str, body: Mapping[str, Any], retention_days: int) -> Turn:
    """The turn that the checked request ``body`` asks for.

    :raises GatewayError: 400 for a previous response, 404 for an item, that is not there.
    """
    oldest = load.oldest_alive(retention_days)
    given = items.as_items(body.get("input") or [])
    named = body.get("previous_response_id")
    store = body.get("store") is not False
    previous, known, sent = None, [], given
    if named is not None:
        previous = load.find(database, api_key_id, named, oldest)
        if previous is None:
            raise previous_not_found(named)
        known = load.history(database, previous.row)
    elif store and (found := load.recognise(database, api_key_id, _lasting(given), oldest)):
        previous, count = found
        sent = given[_place_of(given, count) :]
    added = _resolved(database, api_key_id, sent, oldest)
    resent = given[: len(given) - len(sent)]
    issuers = _issuers(database, api_key_id, [*resent, *(item.body for item in added)])
    everything = [
        *known,
        *(StoredItem(item, issuers.get(items.blob_hash(item))) for item in resent),
        *(StoredItem(item.body, item.upstream_id or issuers.get(items.blob_hash(item.body))) for item in added),
    ]
    if previous:
        retain.touch(database, previous.conversation)
    return Turn(
        api_key_id=api_key_id,
        response_id=f"resp_{uuid7().hex}",
        store=store,
        previous=previous,
        named=named is not None,
        input=everything,
        added=_lasting([item.body for item in added]),
    )


def previous_not_found(response_id: str) -> GatewayError:
    """The one answer for every id that cannot be continued. Clients compare it."""
    return GatewayError(
        400,
        f"Previous response with id '{response_id}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def snapshot_of(database: peewee.Database, api_key_id: str, response_id: str, retention_days: int) -> Snapshot:
    """The snapshot a client asks for by the id of its response.

    :raises GatewayError: 404.
    """
    found = load.find(database, api_key_id, response_id, load.oldest_alive(retention_days))
    if found is None:
        raise GatewayError(404, f"Response with id '{response_id}' not found.")
    retain.touch(database, found.conversation)
    return found


def _lasting(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that become part of the history."""
    return [item for item in given if item.get("type") != items.TRIGGER]


def _place_of(given: list[dict[str, Any]], count: int) -> int:
    """Where in ``given`` the first ``count`` lasting items end."""
    for place, item in enumerate(given):
        if count == 0:
            return place
        count -= item.get("type") != items.TRIGGER
    return len(given)


def _resolved(database: peewee.Database, api_key_id: str, given: list[dict[str, Any]], oldest: int) -> list[StoredItem]:
    """``given`` with each reference replaced by the item it means."""
    resolved = []
    for item in given:
        reference = item.get("id")
        if item.get("type") != "item_reference" and set(item) != {"id"}:
            resolved.append(StoredItem(item))
            continue
        found = load.by_item_id(database, api_key_id, str(reference), oldest)
        if found is None:
            raise GatewayError(404, f"Item with id '{reference}' not found.", param="input")
        resolved.append(found)
    return resolved


def _issuers(database: peewee.Database, api_key_id: str, given: list[dict[str, Any]]) -> dict[str | None, str]:
    hashes = [found for item in given if (found := items.blob_hash(item))]
    return dict(load.issuers(database, api_key_id, hashes)) if hashes else {}
