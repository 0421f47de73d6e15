"""Beginning a turn: from the request to everything the model is to see."""

import contextlib
from collections.abc import Mapping
from typing import Any

import peewee

from floway_core.conversation import load, retention
from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.records import History, Snapshot, Turn
from floway_core.errors import GatewayError
from floway_core.protocol import items


def resolve_turn(
    database: peewee.Database,
    recent: HistoryCache,
    api_key_id: str,
    body: Mapping[str, Any],
    response_id: str,
    retention_days: int,
) -> Turn:
    """The turn that the checked request ``body`` asks for.

    :param response_id: for the response to come; never given before, and the ids of items without one depend on it.
    :raises GatewayError: 400 for a previous response, 404 for an item, that is not there.
    """
    # A turn that continues another asks several things, on one connection; most others ask nothing.
    named = body.get("previous_response_id") is not None
    with database.connection_context() if named else contextlib.nullcontext():
        return _begin(database, recent, api_key_id, body, response_id, load.expiry_cutoff(retention_days))


def _begin(
    database: peewee.Database,
    recent: HistoryCache,
    api_key_id: str,
    body: Mapping[str, Any],
    response_id: str,
    oldest: int,
) -> Turn:
    given = items.as_items(body.get("input") or [])
    named = body.get("previous_response_id")
    store = body.get("store") is not False
    previous, known, resent, hashed = None, History(), 0, None
    if named is not None:
        previous = load.find_snapshot(database, api_key_id, named, oldest)
        found = load.load_history(database, recent, previous) if previous else None
        if found is None:
            raise previous_not_found(named)
        known = found
    sent = _resolved(database, api_key_id, given, known, oldest)
    if named is None and store:
        lasting = items.without_triggers(sent.items)
        hashes = items.extended_hashes(items.START, lasting)
        hashed = hashes[-1] if hashes else items.START
        if place := load.recognise_history(database, api_key_id, lasting, hashes, oldest):
            previous, count = place
            resent = _place_of(sent.items, count)
    if previous:
        retention.mark_used_if_due(database, previous)
    return Turn(
        api_key_id=api_key_id,
        response_id=response_id,
        store=store,
        previous=previous,
        explicit_previous=named is not None,
        input=History(known.items + sent.items, known.issuers + sent.issuers),
        new_items=items.without_triggers(sent.items[resent:]),
        history_hash=hashed,
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
    found = load.find_snapshot(database, api_key_id, response_id, load.expiry_cutoff(retention_days))
    if found is None:
        raise load.response_not_found(response_id)
    retention.mark_used_if_due(database, found)
    return found


def _place_of(given: list[dict[str, Any]], count: int) -> int:
    """Where in ``given`` the first ``count`` lasting items end."""
    for place, item in enumerate(given):
        if count == 0:
            return place
        count -= item.get("type") != items.TRIGGER
    return len(given)


def _resolved(
    database: peewee.Database, api_key_id: str, given: list[dict[str, Any]], known: History, oldest: int
) -> History:
    """``given`` with each reference replaced by the item it means, and with the upstreams that issued what only they
    can read, as far as that is known.

    Reasoning that comes back without what the model is to read of it stands for the item of its id, if there is one.

    :param known: the history that the request continues; an item of it is meant before any other.
    """
    sent = History(list(given), [None] * len(given))
    for position, found in _referenced(database, api_key_id, given, known, oldest).items():
        if found is not None:
            sent.items[position], sent.issuers[position] = found
    for item in sent.items:
        if items.is_reference(item):
            raise GatewayError(404, f"Item with id '{item.get('id')}' not found.", param="input")
    if hashes := {place: found for place, item in enumerate(sent.items) if (found := items.blob_hash(item))}:
        issuers = load.find_issuers(database, api_key_id, hashes.values())
        for place, blob_hash in hashes.items():
            sent.issuers[place] = sent.issuers[place] or issuers.get(blob_hash)
    return sent


def _referenced(
    database: peewee.Database, api_key_id: str, given: list[dict[str, Any]], known: History, oldest: int
) -> dict[int, load.StoredItem | None]:
    """What stands for the items of ``given`` that are there by id alone, by position."""
    named = {
        position: item["id"]
        for position, item in enumerate(given)
        if (items.is_reference(item) or items.is_bare(item)) and isinstance(item.get("id"), str)
    }
    if not named:
        return {}
    in_history: dict[str, list[load.StoredItem]] = {}
    for item, issuer in zip(reversed(known.items), reversed(known.issuers), strict=True):
        if isinstance(item.get("id"), str):
            in_history.setdefault(item["id"], []).append((item, issuer))
    found: dict[int, load.StoredItem | None] = {
        position: next((stored for stored in in_history[item_id] if load.may_mean(given[position], stored[0])), None)
        for position, item_id in named.items()
        if item_id in in_history
    }
    elsewhere = {position: item_id for position, item_id in named.items() if position not in found}
    if elsewhere:
        found |= load.find_items(database, api_key_id, elsewhere, given, oldest)
    return found
