"""Serving one request: candidates are tried until one has answered, or none is left."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.contexts import ClientRequest, PreviousSnapshot
from floway_core.conversation.commit import PreviousResponseDeleted, claim_ordinal
from floway_core.conversation.records import Turn
from floway_core.engine import affinity
from floway_core.engine.attempt import Attempt, start_attempt
from floway_core.engine.relay import Relay, collect, open_relay
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
"""Statuses by which an upstream refuses an account. A limit is not got around: no other account of the same provider is
tried, only another provider."""

PASSING_FAILURES = frozenset({408, *range(500, 600)})
"""Statuses by which an upstream, or the way to it, fails. Any other candidate may do better."""

UNANSWERED = (UpstreamBroken, UpstreamTimeout, UpstreamUnreachable)

UNAUTHORIZED = frozenset({401, 403})
"""Statuses by which an upstream refuses the gateway's account, as opposed to limiting it."""


@dataclass(frozen=True)
class ServedResponse:
    """The answer to a request."""

    headers: Sequence[tuple[str, str]]
    """Of the upstream, names in lower case."""
    ignored: Sequence[str]
    """Fields of the request that the upstream could not honour."""
    relay: Relay | None
    """The answer as it streams, for a client that wants that."""
    response: dict[str, Any]
    """The response object, complete and stored, for a client that does not stream."""


def respond(gateway: Gateway, request: ClientRequest, turn: Turn, trace: RequestTrace) -> ServedResponse:
    """Find an upstream that answers ``request``. The caller closes ``relay``.

    A client that does not stream has been sent nothing, so another candidate may take over whenever one fails; for a
    stream, until its first content has come.

    :param trace: is told what happens.
    :raises GatewayError: nobody serves the model, the upstreams refused or failed, or nothing could be stored.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    left = affinity.order_candidates(find_candidates(gateway, request.api_key, request.body["model"]), turn.input)
    previous = _previous(gateway, turn)
    trace.continued = previous is not None
    while True:
        candidate, *left = left
        trace.tried.append(candidate)
        try:
            attempt = start_attempt(gateway, request, turn, previous, candidate, trace)
            relay = _answer(gateway, attempt, left)
            break
        except ShuttingDown:
            raise
        except PreviousResponseDeleted:
            if turn.explicit_previous or turn.previous is None:
                raise
            turn, previous, trace.continued = turn.as_root(), None, False
            left = [candidate, *left]
        except GatewayError as error:
            left = _left_after(error, candidate, left)
            _note_failure(gateway, trace, candidate, error, left)
            if not left:
                raise _for_client(error, candidate) from error
    if relay is None and trace.events is not None:
        store_response(gateway, attempt, trace.events.response)
    response = {} if relay or not trace.events else trace.events.response
    return ServedResponse(attempt.reply.headers, attempt.context.ignored, relay, response)


def _answer(gateway: Gateway, attempt: Attempt, left: Sequence[Candidate]) -> Relay | None:
    """Open the stream, or collect the whole response, which is then in the events of the trace."""
    if not attempt.context.request.stream:
        collect(gateway, attempt)
        return None
    failed = attempt.trace.tried[-1]
    return open_relay(gateway, attempt, (lambda error: bool(_left_after(error, failed, left))) if left else None)


def _left_after(error: GatewayError, failed: Candidate, left: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that may still be tried."""
    if error.status in PASSING_FAILURES:
        return list(left)
    if error.status in ACCOUNT_REFUSALS:
        return [candidate for candidate in left if candidate.upstream.kind != failed.upstream.kind]
    return []


def _note_failure(
    gateway: Gateway, trace: RequestTrace, failed: Candidate, error: GatewayError, left: Sequence[Candidate]
) -> None:
    """Write down what has failed, for the log, the metrics and ``/readyz``."""
    if isinstance(error, UpstreamFailed):
        trace.failures.append((failed, str(error.status)))  # its code is the upstream's to choose
    elif isinstance(error, UpstreamBroken | UpstreamTimeout | UpstreamUnreachable):
        trace.failures.append((failed, error.code or ""))
    if isinstance(error, UpstreamFailed | UpstreamRefused) and error.status in UNAUTHORIZED:
        problem = f"The upstream {failed.upstream.name!r} refused its account with {error.status}: sign in anew."
        gateway.account_refusals[failed.upstream.id] = problem
        log.warning("Upstream %s refused its account: %d %s", failed.upstream.name, error.status, error.code)
    if left:
        # What an upstream says may quote what was said to it.
        why = error.code if isinstance(error, UpstreamFailed) else error.message
        why = error.status if isinstance(error, UpstreamRefused) else why
        log.warning("Upstream %s failed (%s); trying %s", failed.upstream.name, why, left[0].upstream.name)


def _for_client(error: GatewayError, candidate: Candidate) -> GatewayError:
    """An upstream's failure as the client is to see it: what concerns the gateway's account is not the client's."""
    if isinstance(error, UpstreamFailed | UpstreamRefused) and error.status in UNAUTHORIZED:
        return AccountRefused(candidate.upstream.name, error.status)
    return error


def _previous(gateway: Gateway, turn: Turn) -> PreviousSnapshot | None:
    if turn.previous is None:
        return None
    claim = functools.cache(functools.partial(claim_ordinal, gateway.services.database, turn.previous))
    return PreviousSnapshot(turn.previous.response_id, turn.previous.metadata, turn.new_items, claim)
