"""Resolve a request to a turn, with the whole input of the model."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import peewee

from floway_core.conversation import conversations, load, restoring, retention
from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.quota import check_quota
from floway_core.conversation.records import Conversation, History, Snapshot, StoreLimits, Turn
from floway_core.conversation.references import StoredItem, can_refer_to, find_items
from floway_core.conversation.unstored import UnstoredHistory, UnstoredResponses
from floway_core.errors import GatewayError
from floway_core.protocol import items, jsontext
from floway_core.protocol.visible_history import find_turns


def resolve_turn(
    database: peewee.Database,
    cache: HistoryCache,
    api_key_id: str,
    body: Mapping[str, Any],
    response_id: str,
    retention_days: int,
    limits: StoreLimits,
    restores_reasoning: bool = False,
    unstored: UnstoredResponses | None = None,
) -> Turn:
    """Load the history that a request continues and the items that it refers to; return the turn.

    :param body: the request body, validated.
    :param response_id: a new id for the response; generated item ids derive from it.
    :param restores_reasoning: whether to restore the stored reasoning in a history without it.
    :param unstored: the responses that the client's connection remembers; None if it remembers none.
    :raises GatewayError: 400 if the previous response does not exist or the input is too large, 404 if an item does not
        exist, 507 if the key may not store more.
    """
    is_stored = body.get("store") is not False or body.get("conversation") is not None
    if limits.stored_bytes and is_stored:
        check_quota(database, api_key_id, limits.stored_bytes)
    limit = InputLimit(limits.input_bytes)
    # A turn that continues another one runs several queries, on one connection; most others run none.
    oldest = load.expiry_cutoff(retention_days)
    continues = body.get("previous_response_id") is not None or body.get("conversation") is not None
    restores = restores_reasoning and not continues and body.get("store") is not False
    runs_queries = restores or continues
    with database.connection_context() if runs_queries else contextlib.nullcontext():
        if restores:
            return _restore_turn(database, cache, api_key_id, body, response_id, oldest, limit)
        return _resolve_turn(database, cache, api_key_id, body, response_id, oldest, limit, unstored)


def _resolve_turn(
    database: peewee.Database,
    cache: HistoryCache,
    api_key_id: str,
    body: Mapping[str, Any],
    response_id: str,
    oldest: int,
    limit: InputLimit,
    unstored: UnstoredResponses | None,
) -> Turn:
    sent_items = items.as_items(body.get("input") or [])
    previous_id, store = body.get("previous_response_id"), body.get("store") is not False
    previous, history, resent_count, history_hash = None, History(), 0, None
    continued = unstored.find(previous_id) if unstored is not None and previous_id is not None else None
    conversation = find_conversation(database, api_key_id, body, oldest)
    is_explicit = conversation is not None or previous_id is not None
    if continued:
        limit.add(continued.packed.text_bytes)
        previous, history = continued.stored, continued.packed.unpack()
    elif conversation:
        previous = load.get_head(database, conversation)
        retention.mark_used_if_due(database, conversation)
    elif previous_id is not None:
        previous = load.find_snapshot(database, api_key_id, previous_id, oldest)
        if previous is None:
            raise previous_not_found(previous_id)
    if previous and not continued:
        history = _load_history(database, cache, previous, limit)
    history_of = continued.packed.response_id if continued else previous.response_id if previous else None
    sent = resolve_items(database, api_key_id, sent_items, history, oldest, limit)
    if not is_explicit and store:
        storable = items.without_triggers(sent.items)
        hashes = items.extended_hashes(items.START, storable)
        history_hash = hashes[-1] if hashes else items.START
        if match := load.recognise_history(database, api_key_id, storable, hashes, oldest):
            previous, length = match
            resent_count = _count_with_triggers(sent.items, length)
    if previous:
        retention.mark_used_if_due(database, previous)
    return Turn(
        api_key_id=api_key_id,
        response_id=response_id,
        store=store,
        previous=previous,
        explicit_previous=is_explicit and not continued,
        input=history + sent,
        new_items=_with_unstored(continued, history, items.without_triggers(sent.items[resent_count:])),
        history_hash=history_hash,
        conversation=conversation,
        is_background=body.get("background") is True,
        continued_id=previous_id,
        history_of=history_of,
        remember=_rememberer(unstored, response_id, continued, history, sent, previous),
    )


def _with_unstored(
    continued: UnstoredHistory | None, history: History, added: list[dict[str, Any]]
) -> Sequence[dict[str, Any]]:
    """Return the items of ``history`` that are not stored, and ``added`` ones."""
    if continued is None:
        return added
    return (history.after(continued.stored_length) + History(added, [None] * len(added))).items


def _rememberer(
    unstored: UnstoredResponses | None,
    response_id: str,
    continued: UnstoredHistory | None,
    history: History,
    sent: History,
    previous: Snapshot | None,
) -> Callable[[Sequence[dict[str, Any]], str | None], None] | None:
    """Return the function for ``Turn.remember``.

    :param history: the history that the request continues.
    :param sent: the items that it adds.
    """
    if unstored is None:
        return None
    if continued:
        return functools.partial(unstored.remember, response_id, continued, sent)
    whole = history + sent
    stored = previous if history.items else None
    return functools.partial(
        unstored.remember, response_id, None, whole, stored=stored, stored_length=len(history.items)
    )


def find_conversation(
    database: peewee.Database, api_key_id: str, body: Mapping[str, Any], oldest: int
) -> Conversation | None:
    """Return the conversation that a request names; None if it names none.

    :raises GatewayError: 404, there is none with this id.
    """
    named = body.get("conversation")
    if named is None:
        return None
    conversation_id = named["id"] if isinstance(named, dict) else named
    try:
        return conversations.find(database, api_key_id, conversation_id, oldest)
    except GatewayError as error:
        error.param = error.param or "conversation"
        raise


def _load_history(database: peewee.Database, cache: HistoryCache, previous: Snapshot, limit: InputLimit) -> History:
    """:raises GatewayError: 400, the response has been deleted meanwhile, or its history is too large."""
    history = load.load_history(database, cache, previous, limit)
    if history is None:
        raise previous_not_found(previous.response_id)
    return history


def _restore_turn(
    database: peewee.Database,
    cache: HistoryCache,
    api_key_id: str,
    body: Mapping[str, Any],
    response_id: str,
    oldest: int,
    limit: InputLimit,
) -> Turn:
    """Resolve a request with the whole history, from a client that drops the reasoning."""
    sent = items.as_items(body.get("input") or [])
    turns, visible = find_turns(sent)
    previous, history, start = None, History(), 0
    if restored := restoring.restore_history(database, cache, api_key_id, turns, oldest, limit):
        previous, history, start = restored
        retention.mark_used_if_due(database, previous)
    added = resolve_items(database, api_key_id, sent[start:], history, oldest, limit)
    later = [dataclasses.replace(turn, start=turn.start - start, end=turn.end - start) for turn in turns]
    later = [turn for turn in later if turn.start >= 0]
    added = restoring.restore_turns(database, api_key_id, added, later, oldest, limit)
    return Turn(
        api_key_id=api_key_id,
        response_id=response_id,
        store=True,
        previous=previous,
        explicit_previous=False,
        input=history + added,
        new_items=items.without_triggers(added.items),
        visible=visible,
        history_of=previous.response_id if previous else None,
    )


def previous_not_found(response_id: str) -> GatewayError:
    """Return the error for a response that cannot be continued. Clients compare its text."""
    return GatewayError(
        400,
        f"Previous response with id '{response_id}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )


def get_snapshot(database: peewee.Database, api_key_id: str, response_id: str, retention_days: int) -> Snapshot:
    """Return the snapshot of a response, and mark its conversation as used.

    :raises GatewayError: 404, it does not exist.
    """
    snapshot = load.find_snapshot(database, api_key_id, response_id, load.expiry_cutoff(retention_days))
    if snapshot is None:
        raise load.response_not_found(response_id)
    retention.mark_used_if_due(database, snapshot)
    return snapshot


def _count_with_triggers(sent_items: Sequence[dict[str, Any]], length: int) -> int:
    """Return the number of items of ``sent_items`` that contain the first ``length`` items that are not triggers."""
    for position, item in enumerate(sent_items):
        if length == 0:
            return position
        length -= item.get("type") != items.TRIGGER
    return len(sent_items)


def resolve_items(
    database: peewee.Database,
    api_key_id: str,
    sent_items: Sequence[dict[str, Any]],
    history: History,
    oldest: int,
    limit: InputLimit,
) -> History:
    """Replace references by their items, and find the issuers of encrypted contents.

    Reasoning without its content counts as a reference to the item of its id, if there is one.

    :param history: the history that the request continues; its items take precedence.
    :param limit: counts the bytes of the referenced items.
    :raises GatewayError: 404, an item does not exist; 400, they are too large.
    """
    sent = list(sent_items)
    issuers: list[str | None] = [None] * len(sent)
    for position, stored in _find_referenced(database, api_key_id, sent_items, history, oldest, limit).items():
        if stored is not None:
            sent[position], issuers[position] = stored
    for item in sent:
        if items.is_reference(item):
            raise GatewayError(404, f"Item with id '{item.get('id')}' not found.", param="input")
    hashes = {position: digest for position, item in enumerate(sent) if (digest := items.blob_hash(item))}
    if hashes:
        found = load.find_issuers(database, api_key_id, hashes.values())
        for position, digest in hashes.items():
            issuers[position] = issuers[position] or found.get(digest)
    return History(sent, issuers)


def _find_referenced(
    database: peewee.Database,
    api_key_id: str,
    sent_items: Sequence[dict[str, Any]],
    history: History,
    oldest: int,
    limit: InputLimit,
) -> dict[int, StoredItem | None]:
    """Return the stored items for the references in ``sent_items``, by position."""
    references = {
        position: item["id"]
        for position, item in enumerate(sent_items)
        if (items.is_reference(item) or items.is_bare(item)) and isinstance(item.get("id"), str)
    }
    if not references:
        return {}
    in_history: dict[str, list[StoredItem]] = {}
    for item, issuer in zip(reversed(history.items), reversed(history.issuers), strict=True):
        if isinstance(item.get("id"), str):
            in_history.setdefault(item["id"], []).append((item, issuer))
    resolved: dict[int, StoredItem | None] = {
        position: next(
            (stored for stored in in_history[item_id] if can_refer_to(sent_items[position], stored[0])), None
        )
        for position, item_id in references.items()
        if item_id in in_history
    }
    _count_repetitions(resolved.values(), limit)
    others = {position: item_id for position, item_id in references.items() if position not in resolved}
    if others:
        resolved |= find_items(database, api_key_id, others, sent_items, oldest, limit)
    return resolved


def _count_repetitions(resolved: Iterable[StoredItem | None], limit: InputLimit) -> None:
    """Count the bytes of items that are already in the history, once per reference.

    :raises GatewayError: 400, they are too large.
    """
    sizes: dict[int, int] = {}
    for item, _ in filter(None, resolved):
        if id(item) not in sizes:
            sizes[id(item)] = len(jsontext.dumps(item))
        limit.add(sizes[id(item)])
