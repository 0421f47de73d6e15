"""Serving one request: candidates are tried in order until one responds or none remains."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.contexts import ClientRequest, PreviousSnapshot
from floway_core.conversation.commit import PreviousResponseDeleted, claim_ordinal
from floway_core.conversation.records import Turn
from floway_core.engine import affinity
from floway_core.engine.attempt import Attempt, start_attempt
from floway_core.engine.relay import UNAUTHORIZED, Relay, collect_response, note_account_refusal, open_relay
from floway_core.engine.routing import Candidate, find_candidates
from floway_core.engine.storing import store_response
from floway_core.engine.trace import RequestTrace
from floway_core.errors import (
    AccountRefused,
    GatewayError,
    ShuttingDown,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

ACCOUNT_REFUSALS = frozenset({401, 402, 403, 429})
"""Statuses with which an upstream refuses an account. Floway does not circumvent limits: it falls back to another
provider, never to another account of the same provider."""

TRANSIENT_FAILURES = frozenset({408, *range(500, 600)})
"""Statuses of a failing upstream or network. Floway falls back to any other candidate."""


@dataclass(frozen=True)
class ServedResponse:
    """The response to a client's request."""

    headers: Sequence[tuple[str, str]]
    """The upstream's headers, names in lower case."""
    ignored: Sequence[str]
    """Fields of the request that the upstream could not honour."""
    relay: Relay | None
    """The stream, for a client that asked for one."""
    response: dict[str, Any]
    """The response object, complete and stored, for a client that did not ask for a stream; empty otherwise."""


def respond(gateway: Gateway, request: ClientRequest, turn: Turn, trace: RequestTrace) -> ServedResponse:
    """Have an upstream respond to ``request``. The caller closes ``relay``.

    When a candidate fails, the next one is tried: for a client that does not stream, at any time, because nothing has
    been sent yet; for a stream, until its first content has arrived.

    :param trace: receives what happens.
    :raises GatewayError: no upstream serves the model, the upstreams refused or failed, or the response was not stored.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    remaining = affinity.order_candidates(find_candidates(gateway, request.api_key, request.body["model"]), turn.input)
    previous = _previous_snapshot(gateway, turn)
    trace.continued = previous is not None
    while True:
        candidate, *remaining = remaining
        trace.tried.append(candidate)
        try:
            attempt = start_attempt(gateway, request, turn, previous, candidate, trace)
            relay, response = _receive(gateway, attempt, _fallback_rule(candidate, remaining))
            break
        except ShuttingDown:
            raise
        except PreviousResponseDeleted:
            if turn.explicit_previous or turn.previous is None:
                raise
            turn, previous, trace.continued = turn.as_root(), None, False
            remaining = [candidate, *remaining]
        except GatewayError as error:
            remaining = _fallbacks(error, candidate, remaining)
            _record_failure(gateway, trace, candidate, error, remaining)
            if not remaining:
                raise _client_error(error, candidate) from error
    if relay is None:
        store_response(gateway, attempt, response)
    return ServedResponse(attempt.response.headers, attempt.context.ignored, relay, response)


def _receive(
    gateway: Gateway, attempt: Attempt, can_fall_back: Callable[[GatewayError], bool] | None
) -> tuple[Relay | None, dict[str, Any]]:
    """Open the stream, or collect the response object, as the client asked."""
    if attempt.context.request.stream:
        return open_relay(gateway, attempt, can_fall_back), {}
    return None, collect_response(gateway, attempt)


def _fallback_rule(candidate: Candidate, remaining: Sequence[Candidate]) -> Callable[[GatewayError], bool] | None:
    """Return the predicate for errors of ``candidate`` after which another one is tried; None if none remains."""
    return (lambda error: bool(_fallbacks(error, candidate, remaining))) if remaining else None


def _fallbacks(error: GatewayError, failed: Candidate, remaining: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that may be tried after ``error``."""
    if error.status in TRANSIENT_FAILURES:
        return list(remaining)
    if error.status in ACCOUNT_REFUSALS:
        return [candidate for candidate in remaining if candidate.upstream.kind != failed.upstream.kind]
    return []


def _record_failure(
    gateway: Gateway, trace: RequestTrace, failed: Candidate, error: GatewayError, fallbacks: Sequence[Candidate]
) -> None:
    """Record a failed attempt for the log, the metrics and ``/readyz``."""
    if isinstance(error, UpstreamFailed):
        trace.failures.append((failed, str(error.status)))  # the upstream chose the code
    elif isinstance(error, UpstreamBroken | UpstreamTimeout | UpstreamUnreachable):
        trace.failures.append((failed, error.code or ""))
    if isinstance(error, UpstreamFailed | UpstreamRefused) and error.status in UNAUTHORIZED:
        note_account_refusal(gateway, failed.upstream, error.failure)
    if fallbacks:
        # An upstream's message may quote the request, so it is not logged.
        reason = error.code if isinstance(error, UpstreamFailed) else error.message
        reason = str(error.status) if isinstance(error, UpstreamRefused) else reason
        log.warning("Upstream %s failed (%s); trying %s", failed.upstream.name, reason, fallbacks[0].upstream.name)


def _client_error(error: GatewayError, candidate: Candidate) -> GatewayError:
    """Return the error to send to the client, which has no part in a refusal of the gateway's account."""
    if isinstance(error, UpstreamFailed | UpstreamRefused) and error.status in UNAUTHORIZED:
        return AccountRefused(candidate.upstream.name, error.status)
    return error


def _previous_snapshot(gateway: Gateway, turn: Turn) -> PreviousSnapshot | None:
    if turn.previous is None:
        return None
    claim = functools.cache(functools.partial(claim_ordinal, gateway.services.database, turn.previous))
    return PreviousSnapshot(turn.previous.response_id, turn.previous.metadata, turn.new_items, claim)
