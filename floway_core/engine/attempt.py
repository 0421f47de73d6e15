"""Trying one candidate: the hooks, the dispatches, and what the upstream has accepted."""

import time
from dataclasses import dataclass
from typing import Any

from floway_core.contexts import AttemptContext, ClientRequest, PreviousSnapshot, ResponsesRequestContext
from floway_core.conversation.records import Turn
from floway_core.engine import account, affinity, compaction
from floway_core.engine.input_items import fit_for_upstream
from floway_core.engine.routing import Candidate
from floway_core.engine.trace import RequestTrace
from floway_core.errors import ACCOUNT_REFUSED, GatewayError, UpstreamBroken, UpstreamRefused, account_refusal
from floway_core.protocol import jsontext
from floway_core.protocol.failures import Failure
from floway_core.provider import MAX_DISPATCHES, ErrorResponse, Provider, UpstreamResponse
from floway_core.runtime.gateway import Gateway

LARGEST_REFUSAL = 2**20
"""Bytes of an error body that are kept."""

REFUSAL_TIMEOUT = 5.0
"""Seconds to wait for the body of an error answer."""


@dataclass(frozen=True)
class Attempt:
    """An attempt whose upstream has accepted the request."""

    context: AttemptContext
    provider: Provider
    turn: Turn
    summarises: bool
    """Whether the upstream was asked for a summary, because it cannot compact."""
    reply: UpstreamResponse
    trace: RequestTrace

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields of the response object that the gateway knows better than the upstream."""
        overrides, request = self.turn.overrides, self.context.request.body
        overrides["instructions"] = request.get("instructions")  # a provider may fill in others, or move them elsewhere
        if request["model"] != self.context.model:
            overrides["model"] = request["model"]
        if isinstance(request.get("metadata"), dict):  # not every upstream takes it
            overrides["metadata"] = request["metadata"]
        return overrides

    def present_failure(self, failure: Failure) -> Failure:
        """What the client of a stream may see of an upstream's failure: not what makes its own API key look bad."""
        if failure.status not in (401, 403):
            return failure
        return Failure(account_refusal(self.context.upstream.name, failure.status), ACCOUNT_REFUSED, "server_error")


def start_attempt(
    gateway: Gateway,
    request: ClientRequest,
    turn: Turn,
    previous: PreviousSnapshot | None,
    candidate: Candidate,
    trace: RequestTrace,
) -> Attempt:
    """Have the upstream of ``candidate`` accept the request. The caller closes ``reply.body``.

    :param trace: is told what happens.
    :raises GatewayError: the upstream refused, or cannot be reached, or its plugin failed.
    :raises ClientDisconnected: the client hung up meanwhile.
    """
    provider = gateway.providers.by_kind[candidate.upstream.kind]
    context = AttemptContext(
        id=f"{request.id}.{len(trace.tried)}",
        request=request,
        upstream=candidate.upstream,
        provider=provider,
        model=candidate.upstream_name,
        previous=previous,
    )
    summarises = compaction.is_requested(turn.input) and not provider.supports_compaction(context.upstream)
    hooks = gateway.providers.hooks[candidate.upstream.kind]
    hooks.call("on_attempt_start", context)
    for number in range(1, MAX_DISPATCHES + 1):
        body = _copy_of_body(context, candidate.overrides.applied_to(request.body), turn, summarises)
        prepared = ResponsesRequestContext(context, number, body)
        hooks.call("prepare_responses_request", prepared)
        trace.dispatches += 1
        reply = provider.send(prepared)
        if 200 <= reply.status < 300:
            gateway.account_refusals.pop(context.upstream.id, None)
            visible = account.hide_in_reply(provider, context, reply)
            return Attempt(context, provider, turn, summarises, visible, trace)
        trace.failures.append((candidate, str(reply.status)))
        try:
            content = _read_refusal(context, reply)
        finally:
            reply.body.close()
        refusal = ErrorResponse(reply.status, reply.headers, content)
        if not provider.handle_error_response(prepared, refusal):
            break
    refusal = account.hide_in_refusal(provider, context, refusal)
    raise UpstreamRefused(refusal.status, refusal.headers, refusal.content)


def _copy_of_body(context: AttemptContext, asked: dict[str, Any], turn: Turn, summarises: bool) -> dict[str, Any]:
    readable = affinity.without_foreign_reasoning(turn.input, context.upstream.id)
    given = fit_for_upstream(readable, context.upstream.id)
    if "compaction" in turn.input.kinds:
        given = list(compaction.expand(given))
    body = {**asked, "model": context.model, "input": given}
    try:
        return jsontext.deep_copy(compaction.summary_request(body) if summarises else body)
    except ValueError:
        raise GatewayError(400, "The request body is nested too deeply.") from None


def _read_refusal(context: AttemptContext, reply: UpstreamResponse) -> bytes:
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
