"""Trying candidates: the hooks, the dispatches, and what to make of a refusal."""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from floway_core.contexts import AttemptContext, ClientRequest, PreviousSnapshot, ResponsesRequestContext
from floway_core.conversation.commit import PreviousGone, claim_ordinal
from floway_core.conversation.rows import Turn
from floway_core.engine import account, affinity, compaction
from floway_core.engine.course import Course
from floway_core.engine.resolve import Candidate, candidates
from floway_core.errors import (
    GatewayError,
    ShuttingDown,
    UpstreamBroken,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from floway_core.gateway import Gateway
from floway_core.protocol import jsontext
from floway_core.provider import MAX_DISPATCHES, Refusal, UpstreamReply

log = logging.getLogger("floway.engine")

LARGEST_REFUSAL = 2**20
"""Bytes of an error body that are kept."""

REFUSAL_TIMEOUT = 5.0
"""Seconds to wait for the body of an error answer."""

ACCOUNT_REFUSALS = frozenset({401, 403, 429})
"""Statuses by which an upstream refuses an account. A limit is not got around: no other account of the same provider is
tried, only another provider."""

PASSING_FAILURES = frozenset({408, *range(500, 600)})
"""Statuses by which an upstream, or the way to it, fails. Any other candidate may do better."""

UNANSWERED = (UpstreamBroken, UpstreamTimeout, UpstreamUnreachable)


@dataclass(frozen=True)
class Attempt:
    """An attempt whose upstream has accepted the request."""

    context: AttemptContext
    turn: Turn
    summarises: bool
    """Whether the upstream was asked for a summary, because it cannot compact."""
    reply: UpstreamReply
    course: Course

    @property
    def known(self) -> dict[str, Any]:
        """The fields of the response object that the gateway knows better than the upstream."""
        known, asked = self.turn.envelope, self.context.request.body
        known["instructions"] = asked.get("instructions")  # a provider may fill in others, or move them elsewhere
        if asked["model"] != self.context.model:
            known["model"] = asked["model"]
        if isinstance(asked.get("metadata"), dict):  # not every upstream takes it
            known["metadata"] = asked["metadata"]
        return known


def attempt(gateway: Gateway, request: ClientRequest, turn: Turn, course: Course) -> Attempt:
    """Find an upstream for ``request`` and have it accept it. The caller closes ``reply.body``.

    :param course: is told what happens.
    :raises GatewayError: nobody serves the model, the upstream refused, or it cannot be reached.
    :raises ClientGone: the client hung up meanwhile.
    """
    left = affinity.ordered(candidates(gateway, request.api_key, request.body["model"]), turn.input)
    previous = _previous(gateway, turn)
    course.continued = previous is not None
    while True:
        candidate, *left = left
        course.tried.append(candidate)
        try:
            return _try(gateway, request, turn, previous, candidate, course)
        except ShuttingDown:
            raise
        except PreviousGone:
            if turn.named or turn.previous is None:
                raise
            turn, previous, course.continued = turn.alone(), None, False
            left = [candidate, *left]
        except GatewayError as error:
            if isinstance(error, UNANSWERED):
                course.failures.append((candidate, error.code or ""))
            left = _left_after(error, candidate, left)
            if not left:
                raise
            # What an upstream says may quote what was said to it.
            why = error.status if isinstance(error, UpstreamRefused) else error.message
            log.warning("Upstream %s failed (%s); trying %s", candidate.upstream.name, why, left[0].upstream.name)


def _left_after(error: GatewayError, failed: Candidate, left: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that may still be tried."""
    if error.status in PASSING_FAILURES:
        return list(left)
    if error.status in ACCOUNT_REFUSALS:
        return [candidate for candidate in left if candidate.upstream.kind != failed.upstream.kind]
    return []


def _try(
    gateway: Gateway,
    request: ClientRequest,
    turn: Turn,
    previous: PreviousSnapshot | None,
    candidate: Candidate,
    course: Course,
) -> Attempt:
    context = AttemptContext(
        id=f"{request.id}.{len(course.tried)}",
        request=request,
        upstream=candidate.upstream,
        provider=gateway.providers.by_kind[candidate.upstream.kind],
        model=candidate.upstream_name,
        previous=previous,
    )
    summarises = compaction.wanted(turn.input) and not context.provider.compacts(context.upstream)
    hooks = gateway.providers.hooks[candidate.upstream.kind]
    hooks.call("on_attempt_start", context)
    for number in range(1, MAX_DISPATCHES + 1):
        body = _copy_of_body(context, candidate.overrides.applied_to(request.body), turn, summarises)
        prepared = ResponsesRequestContext(context, number, body)
        hooks.call("prepare_responses_request", prepared)
        course.dispatches += 1
        reply = context.provider.send(prepared)
        if 200 <= reply.status < 300:
            return Attempt(context, turn, summarises, account.hide_in_reply(context, reply), course)
        course.failures.append((candidate, str(reply.status)))
        try:
            content = _read_refusal(context, reply)
        finally:
            reply.body.close()
        refusal = Refusal(reply.status, reply.headers, content)
        if not context.provider.recover(prepared, refusal):
            break
    refusal = account.hide_in_refusal(context, refusal)
    raise UpstreamRefused(refusal.status, refusal.headers, refusal.content)


def _previous(gateway: Gateway, turn: Turn) -> PreviousSnapshot | None:
    if turn.previous is None:
        return None
    claim = functools.cache(functools.partial(claim_ordinal, gateway.services.database, turn.previous))
    return PreviousSnapshot(turn.previous.response_id, turn.previous.metadata, turn.added, claim)


def _copy_of_body(context: AttemptContext, asked: dict[str, Any], turn: Turn, summarises: bool) -> dict[str, Any]:
    given = affinity.readable(turn.input, context.upstream.id)
    if "compaction" in turn.input.kinds:
        given = list(compaction.unpacked(given))
    body = {**asked, "model": context.model, "input": given}
    try:
        return jsontext.copied(compaction.summary_request(body) if summarises else body)
    except ValueError:
        raise GatewayError(400, "The request body is nested too deeply.") from None


def _read_refusal(context: AttemptContext, reply: UpstreamReply) -> bytes:
    """The body of an error answer. What is wrong with it must not hide the refusal itself, so it may be cut."""
    content, deadline = b"", time.monotonic() + REFUSAL_TIMEOUT
    try:
        while len(content) < LARGEST_REFUSAL and (left := deadline - time.monotonic()) > 0:
            data = reply.body.read(left, context.request.client)
            if not data:
                break
            content += data
    except UpstreamBroken:
        pass
    return content
