"""Resolve a request to a turn, with the whole input of the model."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from floway_core.conversation import conversations, load, restoring, retention
from floway_core.conversation.cache import HistoryCache
from floway_core.conversation.commit import OrdinalClaim
from floway_core.conversation.input_limit import InputLimit
from floway_core.conversation.quota import check_quota
from floway_core.conversation.records import Conversation, History, Snapshot, StoreLimits, Turn
from floway_core.conversation.references import resolve_items
from floway_core.conversation.unstored import UnstoredHistory, UnstoredResponses
from floway_core.errors import GatewayError
from floway_core.protocol import items
from floway_core.protocol.visible_history import find_turns
from floway_core.storage.db import reading


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
    request = _Request(
        database,
        cache,
        api_key_id,
        body,
        response_id,
        oldest=load.expiry_cutoff(retention_days),
        limit=InputLimit(limits.input_bytes, limits.reserve),
        unstored=unstored,
    )
    # A turn that continues another one may run several queries; most others run none.
    continues = body.get("previous_response_id") is not None or body.get("conversation") is not None
    restores = restores_reasoning and not continues and request.is_stored
    with reading(database) if restores or continues else contextlib.nullcontext():
        return _restore_turn(request) if restores else _resolve_turn(request)


@dataclass
class _Request:
    """A request to resolve, and the parameters of all queries for it."""

    database: peewee.Database
    cache: HistoryCache
    api_key_id: str
    body: Mapping[str, Any]
    response_id: str
    oldest: int
    """Conversations not used since this Unix second have expired."""
    limit: InputLimit
    unstored: UnstoredResponses | None

    @property
    def is_stored(self) -> bool:
        """Whether the response is to be stored."""
        return self.body.get("store") is not False

    def input_items(self) -> Sequence[dict[str, Any]]:
        """Return the items that the client has sent."""
        return items.as_items(self.body.get("input") or [])

    def resolve_items(self, sent_items: Sequence[dict[str, Any]], history: History) -> History:
        """Replace the references in ``sent_items``, as ``references.resolve_items``."""
        return resolve_items(self.database, self.api_key_id, sent_items, history, self.oldest, self.limit)


@dataclass
class _Start:
    """The history that a request continues by id; empty if it names none."""

    history: History
    previous: Snapshot | None = None
    """The last stored snapshot of the history."""
    unstored: UnstoredHistory | None = None
    """The history, if its response is remembered for the connection."""
    conversation: Conversation | None = None

    @property
    def response_id(self) -> str | None:
        """The id of the response whose history this is."""
        if self.unstored:
            return self.unstored.packed.response_id
        return self.previous.response_id if self.previous else None


def _resolve_turn(request: _Request) -> Turn:
    start = _find_start(request)
    sent = request.resolve_items(request.input_items(), start.history)
    previous, history_hash = start.previous, None
    previous_id = request.body.get("previous_response_id")
    is_explicit = start.conversation is not None or previous_id is not None
    if not is_explicit and request.is_stored:
        previous, new_items, history_hash = _recognise_history(request, sent)
    else:
        new_items = sent.storable()
    if previous:
        retention.mark_used_if_due(request.database, previous)
    ordinal = _claim_ordinal(request, start, previous)
    return Turn(
        api_key_id=request.api_key_id,
        response_id=request.response_id,
        store=request.is_stored,
        previous=previous,
        explicit_previous=is_explicit and not start.unstored,
        input=start.history + sent,
        new_items=_with_unstored(start, new_items),
        history_hash=history_hash,
        conversation=start.conversation,
        is_background=request.body.get("background") is True,
        continued_id=previous_id,
        history_of=start.response_id,
        ordinal=ordinal,
        remember=_rememberer(request, start, sent, previous, ordinal),
    )


def _find_start(request: _Request) -> _Start:
    """:raises GatewayError: 400, the previous response does not exist, or its history is too large; 404, the
    conversation does not exist.
    """
    database, previous_id = request.database, request.body.get("previous_response_id")
    unstored = request.unstored.find(previous_id) if request.unstored is not None and previous_id is not None else None
    conversation = find_conversation(database, request.api_key_id, request.body, request.oldest)
    if unstored:
        request.limit.add(unstored.packed.text_bytes)
        return _Start(unstored.packed.unpack(), unstored.stored, unstored, conversation)
    previous = None
    if conversation:
        previous = load.get_head(database, conversation)
        retention.mark_used_if_due(database, conversation)
    elif previous_id is not None:
        previous = load.find_snapshot(database, request.api_key_id, previous_id, request.oldest)
        if previous is None:
            raise previous_not_found(previous_id)
    history = _load_history(request, previous) if previous else History()
    return _Start(history, previous, conversation=conversation)


def _recognise_history(request: _Request, sent: History) -> tuple[Snapshot | None, Sequence[dict[str, Any]], str]:
    """Find the stored history that a request starts with.

    :returns: its snapshot, or None; the sent items that it does not have; and the hash of all sent items.
    """
    storable = sent.storable()
    hashes = items.extended_hashes(items.START, storable)
    history_hash = hashes[-1] if hashes else items.START
    match = load.recognise_history(request.database, request.api_key_id, storable, hashes, request.oldest)
    if not match:
        return None, storable, history_hash
    previous, length = match
    return previous, storable[length:], history_hash


def _claim_ordinal(request: _Request, start: _Start, previous: Snapshot | None) -> Callable[[], int] | None:
    """Return the function for ``Turn.ordinal``."""
    if previous is None:
        return None
    passed_on = None
    if start.unstored and request.unstored is not None:
        passed_on = request.unstored.pass_on_ordinal(start.unstored.packed.response_id)
    return passed_on or OrdinalClaim(request.database, previous)


def _with_unstored(start: _Start, added: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the items of the history that are not stored, and ``added`` ones."""
    if start.unstored is None:
        return added
    return (start.history.after(start.unstored.stored_length) + History(added, [None] * len(added))).items


def _rememberer(
    request: _Request,
    start: _Start,
    sent: History,
    previous: Snapshot | None,
    ordinal: Callable[[], int] | None,
) -> Callable[[Sequence[dict[str, Any]], str | None], None] | None:
    """Return the function for ``Turn.remember``.

    :param sent: the items that the request adds to the history.
    """
    if request.unstored is None:
        return None
    remember = functools.partial(request.unstored.remember, request.response_id, ordinal=ordinal)
    if start.unstored:
        return functools.partial(remember, start.unstored, sent)
    stored = previous if start.history.items else None
    return functools.partial(
        remember, None, start.history + sent, stored=stored, stored_length=len(start.history.items)
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


def _load_history(request: _Request, previous: Snapshot) -> History:
    """:raises GatewayError: 400, the response has been deleted meanwhile, or its history is too large."""
    history = load.load_history(request.database, request.cache, previous, request.limit)
    if history is None:
        raise previous_not_found(previous.response_id)
    return history


def _restore_turn(request: _Request) -> Turn:
    """Resolve a request with the whole history, from a client that drops the reasoning."""
    database, api_key_id, oldest, limit = request.database, request.api_key_id, request.oldest, request.limit
    sent = request.input_items()
    turns, visible = find_turns(sent)
    previous, history, start = None, History(), 0
    if restored := restoring.restore_history(database, request.cache, api_key_id, turns, oldest, limit):
        previous, history, start = restored
        retention.mark_used_if_due(database, previous)
    added = request.resolve_items(sent[start:], history)
    later = [
        dataclasses.replace(turn, start=turn.start - start, end=turn.end - start)
        for turn in turns
        if turn.start >= start
    ]
    added = restoring.restore_turns(database, api_key_id, added, later, oldest, limit)
    return Turn(
        api_key_id=api_key_id,
        response_id=request.response_id,
        store=True,
        previous=previous,
        ordinal=OrdinalClaim(database, previous) if previous else None,
        explicit_previous=False,
        input=history + added,
        new_items=added.storable(),
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
