"""Serving one request: candidates are tried in order until one responds or none remains."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from floway_core.contexts import ClientRequest, PreviousSnapshot
from floway_core.conversation.commit import OrdinalClaim, PreviousResponseDeleted
from floway_core.conversation.conversations import ConversationLock
from floway_core.conversation.load import expiry_cutoff
from floway_core.conversation.records import StoreLimits, Turn
from floway_core.conversation.turns import find_conversation, resolve_turn
from floway_core.conversation.unstored import UnstoredResponses
from floway_core.engine import affinity
from floway_core.engine.answer_stream import RESPONSES_FORMAT, AnswerFormat, AnswerStream
from floway_core.engine.attempt import Attempt, start_attempt
from floway_core.engine.fallback import find_fallbacks, record_failure, refuses_account
from floway_core.engine.relay import CollectedAnswer, collect_response, open_stream
from floway_core.engine.routing import Candidate, find_candidates
from floway_core.engine.storing import store_response
from floway_core.engine.trace import AttemptTrace, RequestTrace
from floway_core.errors import AccountRefused, GatewayError, ShuttingDown
from floway_core.runtime.gateway import Gateway

NOT_SENT = ("background", "conversation", "previous_response_id")
"""Fields of a request that only the gateway understands."""


class ServedResponse(NamedTuple):
    """The response to a client's request."""

    headers: Sequence[tuple[str, str]]
    """The upstream's headers, names in lower case."""
    ignored: Sequence[str]
    """Fields of the request that the upstream does not support."""
    stream: AnswerStream | None
    """The stream, if the client requested one. The caller closes it."""
    response: dict[str, Any]
    """The complete and stored response object, if the client requested no stream; empty otherwise."""
    content: bytes | None = None
    """The upstream's unchanged answer, if the client requested no stream and it is passed through. It is not stored."""


def serve(
    gateway: Gateway,
    request: ClientRequest,
    trace: RequestTrace,
    answer_format: AnswerFormat = RESPONSES_FORMAT,
    unstored: UnstoredResponses | None = None,
) -> ServedResponse:
    """Let an upstream respond to ``request``.

    If a candidate fails, the next one is tried. For a client that does not stream, this is always possible, because
    nothing has been sent yet; for a stream, until the first content has arrived.

    :param request: the client's request with a validated body, without the history that it continues.
    :param trace: records the attempts.
    :param unstored: the unstored responses of the client's connection.
    :raises GatewayError: the conversation cannot be continued, no upstream serves the model, the upstreams refused or
        failed, or the response was not stored.
    :raises ClientDisconnected: the client disconnected meanwhile.
    """
    return respond(gateway, prepare(gateway, request, unstored), trace, answer_format)


class PreparedTurn(NamedTuple):
    """A request whose conversation is loaded, and locked if it has an id. ``respond`` unlocks it."""

    request: ClientRequest
    """With the whole history in its body."""
    turn: Turn
    lock: ConversationLock | None


def prepare(gateway: Gateway, request: ClientRequest, unstored: UnstoredResponses | None = None) -> PreparedTurn:
    """Load the conversation of a request, and lock it if it has an id.

    :raises GatewayError: the conversation cannot be continued, or another request runs in it.
    """
    lock = _lock_conversation(gateway, request)
    if lock is None:
        return PreparedTurn(*with_turn(gateway, request, unstored), None)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(lock.release)
        prepared = PreparedTurn(*with_turn(gateway, request, unstored), lock)
        on_failure.pop_all()
    return prepared


def respond(
    gateway: Gateway, prepared: PreparedTurn, trace: RequestTrace, answer_format: AnswerFormat = RESPONSES_FORMAT
) -> ServedResponse:
    """Let an upstream respond to a prepared request, as ``serve``."""
    lock = prepared.lock
    if lock is None:
        return _respond_or_release(gateway, prepared, trace, answer_format)
    with contextlib.ExitStack() as on_end:
        on_end.callback(lock.release)
        served = _respond_or_release(gateway, prepared, trace, answer_format)
        if served.stream:
            on_end.pop_all()
            # The client may send the next turn after the terminal event.
            served.stream.subscribe(before_terminal=lock.release, closed=lock.release)
    return served


def _respond_or_release(
    gateway: Gateway, prepared: PreparedTurn, trace: RequestTrace, answer_format: AnswerFormat
) -> ServedResponse:
    """Let an upstream respond. If none does, the turn is not a child of the snapshot that it continues."""
    ordinal = prepared.turn.ordinal
    with contextlib.ExitStack() as on_failure:
        if isinstance(ordinal, OrdinalClaim) and not ordinal.is_made:
            on_failure.callback(ordinal.release)
        served = _respond(gateway, prepared.request, prepared.turn, trace, answer_format)
        on_failure.pop_all()
    return served


def _lock_conversation(gateway: Gateway, request: ClientRequest) -> ConversationLock | None:
    """Lock the conversation that a request names; None if it names none.

    :raises GatewayError: 404, it does not exist; 409, another request runs in it.
    """
    database, key = gateway.services.database, request.api_key
    conversation = find_conversation(database, key.id, request.body, expiry_cutoff(gateway.settings.retention_days))
    if conversation is None:
        return None
    return ConversationLock(database, gateway.turn_leases, key.id, conversation, response_id_of(request))


def response_id_of(request: ClientRequest) -> str:
    """Return the id of the response to a request. It contains the request id, so that it can be found in the log."""
    return f"resp_{request.id.replace('-', '')}"


def with_turn(
    gateway: Gateway, request: ClientRequest, unstored: UnstoredResponses | None = None
) -> tuple[ClientRequest, Turn]:
    """Return ``request`` with the history that it continues, and its turn.

    :raises GatewayError: the conversation cannot be continued.
    """
    settings, key = gateway.settings, request.api_key
    turn = resolve_turn(
        gateway.services.database,
        gateway.history_cache,
        key.id,
        request.body,
        response_id_of(request),
        settings.retention_days,
        StoreLimits(settings.input_limit, key.max_stored_bytes or settings.max_stored_bytes, request.reserve_memory),
        request.restores_reasoning,
        unstored,
    )
    # ``dataclasses.replace`` takes four times as long.
    return ClientRequest(**{**vars(request), "body": _with_history(request.body, turn)}), turn


def _with_history(body: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    """Return ``body`` with the whole history in ``input``, and without fields that only the gateway understands.

    Items of the history are parsed by whoever reads them first.
    """
    request_body = {**body, "input": turn.input.items}
    for name in NOT_SENT:
        request_body.pop(name, None)
    if isinstance(options := request_body.get("prompt_cache_options"), dict):
        options = {name: value for name, value in options.items() if name != "comparison_response_id"}
        request_body["prompt_cache_options"] = options
    return request_body


def order_candidates(gateway: Gateway, request: ClientRequest, turn: Turn) -> list[Candidate]:
    """Return the candidates for a request, in the order in which they are tried. There is at least one.

    :raises GatewayError: there is none, or none understands what only the client's API can express.
    """
    candidates = find_candidates(gateway, request.api_key, request.body["model"])
    ordered = affinity.order_candidates(candidates, turn.input)
    if request.untranslatable is None:
        return ordered
    providers = gateway.providers.by_kind
    capable = [candidate for candidate in ordered if providers[candidate.upstream.kind].dialect == request.dialect]
    if not capable:
        raise request.untranslatable
    return capable


def _respond(
    gateway: Gateway, request: ClientRequest, turn: Turn, trace: RequestTrace, answer_format: AnswerFormat
) -> ServedResponse:
    """Try the candidates for ``turn`` in order until one responds."""
    remaining = order_candidates(gateway, request, turn)
    previous = _previous_snapshot(turn)
    trace.continued = previous is not None
    while True:
        candidate, *remaining = remaining
        trace.attempts.append(AttemptTrace(candidate))
        try:
            attempt = start_attempt(gateway, request, turn, previous, candidate, trace)
            request.shrink_memory()
            answer = _receive(gateway, attempt, answer_format, _fallback_rule(candidate, remaining))
            break
        except ShuttingDown:
            raise
        except PreviousResponseDeleted:
            if turn.explicit_previous or turn.previous is None:
                raise
            trace.end_attempt(None)
            turn, previous, trace.continued = turn.as_root(), None, False
            remaining = [candidate, *remaining]
        except GatewayError as error:
            trace.end_attempt(error.code or error.type)
            remaining = find_fallbacks(error, candidate, remaining)
            record_failure(gateway, trace, candidate, error, remaining)
            if not remaining:
                # The new error is not bound to a name: its traceback would keep the request in memory.
                if refuses_account(error):
                    raise AccountRefused(candidate.upstream.name, error.status) from error
                raise
    headers, ignored = attempt.response.headers, attempt.context.ignored
    if isinstance(answer, AnswerStream):
        return ServedResponse(headers, ignored, answer, {})
    if answer.content is None:
        store_response(gateway, attempt, answer.response)
    return ServedResponse(headers, ignored, None, answer.response, answer.content)


def _receive(
    gateway: Gateway,
    attempt: Attempt,
    answer_format: AnswerFormat,
    can_fall_back: Callable[[GatewayError], bool] | None,
) -> AnswerStream | CollectedAnswer:
    """Open the stream, or collect the response object, as the client has requested."""
    if attempt.context.request.stream:
        return open_stream(gateway, attempt, answer_format, can_fall_back)
    return collect_response(gateway, attempt, answer_format)


def _fallback_rule(candidate: Candidate, remaining: Sequence[Candidate]) -> Callable[[GatewayError], bool] | None:
    """Return the predicate for errors of ``candidate`` after which another one is tried; None if none remains."""
    return (lambda error: bool(find_fallbacks(error, candidate, remaining))) if remaining else None


def _previous_snapshot(turn: Turn) -> PreviousSnapshot | None:
    if turn.previous is None or turn.ordinal is None:
        return None
    return PreviousSnapshot(turn.previous.response_id, turn.previous.metadata, turn.new_items, turn.ordinal)
