"""One attempt: call the hooks and dispatch the request until the upstream accepts or refuses it."""

import time
from dataclasses import replace
from typing import Any, NamedTuple

from floway_core.contexts import (
    TRACE_HEADERS,
    AttemptContext,
    ClientRequest,
    PreviousSnapshot,
    ResponsesRequestContext,
)
from floway_core.conversation.records import History, Turn
from floway_core.engine import account, affinity, compaction
from floway_core.engine.input_items import fit_for_upstream
from floway_core.engine.routing import Candidate
from floway_core.engine.trace import RequestTrace
from floway_core.errors import ACCOUNT_REFUSED, UpstreamBroken, UpstreamRefused, account_refusal
from floway_core.protocol import jsontext
from floway_core.protocol.failures import Failure
from floway_core.protocol.headers import VALUE
from floway_core.protocol.lazy_items import LazyItems
from floway_core.provider import MAX_DISPATCHES, ErrorResponse, Provider, UpstreamResponse
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugin_calls import call_plugin, check_response

MAX_ERROR_BODY_BYTES = 2**20
"""The rest of a longer error body is cut off."""

ERROR_BODY_TIMEOUT_SECONDS = 5.0
"""How long to wait for the whole body of an error response."""


class Attempt(NamedTuple):
    """An attempt whose upstream has accepted the request."""

    context: AttemptContext
    provider: Provider
    turn: Turn
    summarises: bool
    """Whether the model writes a summary, because the upstream does not support compaction."""
    response: UpstreamResponse
    trace: RequestTrace

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields of the response object that the gateway sets, whatever the upstream sends."""
        overrides, request = self.turn.overrides, self.context.request.body
        overrides["instructions"] = request.get("instructions")  # a provider may add instructions or move them
        if request["model"] != self.context.model:
            overrides["model"] = request["model"]
        if isinstance(request.get("metadata"), dict):  # not every upstream takes it
            overrides["metadata"] = request["metadata"]
        return overrides


def present_failure(upstream: str, failure: Failure) -> Failure:
    """Return the failure to show to the client of a stream.

    A 401 or 403 concerns the gateway's account. The client would think that its own API key was refused.

    :param upstream: its name.
    """
    if failure.status not in (401, 403):
        return failure
    return Failure(account_refusal(upstream, failure.status), ACCOUNT_REFUSED, "server_error")


def start_attempt(
    gateway: Gateway,
    request: ClientRequest,
    turn: Turn,
    previous: PreviousSnapshot | None,
    candidate: Candidate,
    trace: RequestTrace,
) -> Attempt:
    """Dispatch the request to the upstream of ``candidate`` until it is accepted. The caller closes ``response.body``.

    :param trace: receives the dispatches and their failures.
    :raises GatewayError: the upstream refused the request or cannot be reached, or its plugin failed.
    :raises ClientDisconnected: the client disconnected meanwhile.
    """
    provider = gateway.providers.by_kind[candidate.upstream.kind]
    context = _create_context(provider, request, turn, previous, candidate, len(trace.attempts))
    trace.attempts[-1].context = context
    summarises = compaction.is_requested(turn.input) and not call_plugin(
        context, "supports_compaction", provider.supports_compaction, context.upstream
    )
    hooks, hook = gateway.providers.hooks[candidate.upstream.kind], "on_attempt_start"
    call_plugin(context, hook, hooks.call, hook, context)
    readable, held = turn, 0
    if context.continues and not summarises:
        held = call_plugin(context, "count_held_items", provider.count_held_items, context)
    for number in range(1, MAX_DISPATCHES + 1):
        dispatch = prepare_dispatch(gateway, context, candidate, readable, number, summarises, held)
        held = 0
        trace.attempts[-1].dispatched.append(time.monotonic())
        response = call_plugin(context, "send", _send, provider, dispatch)
        trace.attempts[-1].status = response.status
        if 200 <= response.status < 300:
            gateway.account_refusals.pop(context.upstream.id, None)
            visible = account.filter_response(provider, context, response)
            return Attempt(context, provider, turn, summarises, visible, trace)
        trace.failures.append((candidate, str(response.status)))
        refusal = call_plugin(context, "ResponseBody.read", read_refusal, context, response)
        if call_plugin(context, "handle_error_response", provider.handle_error_response, dispatch, refusal):
            continue
        # The issuer of reasoning is unknown if its response was never stored, or has been deleted.
        if "reasoning" not in readable.input.kinds:
            break
        if not call_plugin(context, "refuses_reasoning", provider.refuses_reasoning, dispatch, refusal):
            break
        readable = replace(turn, input=affinity.without_reasoning(turn.input))
    refusal = account.filter_error_response(provider, context, refusal)
    raise UpstreamRefused(refusal.status, refusal.headers, refusal.content, provider.dialect)


def _create_context(
    provider: Provider,
    request: ClientRequest,
    turn: Turn,
    previous: PreviousSnapshot | None,
    candidate: Candidate,
    number: int,
) -> AttemptContext:
    """Return the context of the attempt with this number, from 1."""
    context = AttemptContext(
        f"{request.id}.{number}",
        request,
        candidate.upstream,
        provider,
        candidate.upstream_name,
        previous=previous,
        response_id=turn.response_id,
        continues=turn.history_of,
    )
    if provider.dialect != request.dialect:
        context.ignored += request.dropped_fields
    return context


def prepare_dispatch(
    gateway: Gateway,
    context: AttemptContext,
    candidate: Candidate,
    turn: Turn,
    number: int = 1,
    summarises: bool = False,
    held: int = 0,
) -> ResponsesRequestContext:
    """Return the request for one dispatch: ``prepare_responses_request`` has run on it.

    :param held: how many of the first input items the provider does not need.
    :raises GatewayError: the plugin refused it, or it is nested too deeply.
    """
    history = turn.input.after(held) if held else turn.input
    provider, request = gateway.providers.by_kind[candidate.upstream.kind], context.request.body
    body = _build_body(context, provider, candidate.overrides.applied_to(request), history, summarises)
    dispatch = ResponsesRequestContext(context, number, body, held_items=held)
    hooks, hook = gateway.providers.hooks[candidate.upstream.kind], "prepare_responses_request"
    call_plugin(context, hook, hooks.call, hook, dispatch)
    if context.trace_headers:
        _add_trace_headers(dispatch)
    return dispatch


def _add_trace_headers(dispatch: ResponsesRequestContext) -> None:
    """Add the valid headers of the trace. Invalid ones are dropped: an observer must not make the request fail."""
    for name in TRACE_HEADERS:
        value: object = dispatch.attempt.trace_headers.get(name)
        if isinstance(value, str) and VALUE.fullmatch(value):
            dispatch.headers.setdefault(name, value)


def _send(provider: Provider, dispatch: ResponsesRequestContext) -> UpstreamResponse:
    return check_response(provider.send(dispatch))


def _build_body(
    context: AttemptContext, provider: Provider, request: dict[str, Any], history: History, summarises: bool
) -> dict[str, Any]:
    """Return a fresh body for one dispatch; a shallow copy if the provider accepts one (``accepts_shallow_copy``)."""
    readable = affinity.without_foreign_reasoning(history, context.upstream.id)
    texts, items = fit_for_upstream(readable, context.upstream.id)
    if summarises or "compaction" in history.kinds:
        texts, items = [], list(compaction.expand([*jsontext.loads_many(texts), *items]))
    body = {**request, "model": context.model, "input": items}
    if summarises:
        body = compaction.summary_request(body)
    if provider.accepts_shallow_copy:
        return {**body, "input": LazyItems([*texts, *body["input"]], len(texts))}
    fresh: dict[str, Any] = jsontext.deep_copy(body)
    if texts:
        fresh["input"] = [*jsontext.loads_many(texts), *fresh["input"]]
    return fresh


def read_refusal(context: AttemptContext, response: UpstreamResponse) -> ErrorResponse:
    """Read and close an error response. If its body breaks off, return the part that has arrived."""
    content, deadline = b"", time.monotonic() + ERROR_BODY_TIMEOUT_SECONDS
    try:
        while len(content) < MAX_ERROR_BODY_BYTES and (remaining := deadline - time.monotonic()) > 0:
            data = response.body.read(remaining, context.request.client)
            if not data:
                break
            content += data
    except UpstreamBroken:
        pass
    finally:
        response.body.close()
    return ErrorResponse(response.status, response.headers, content)
