"""Trying a candidate: the hooks, the dispatches, and what to make of a refusal."""

from dataclasses import dataclass

from uuid6 import uuid7

from floway_core.contexts import AttemptContext, ClientRequest, ResponsesRequestContext
from floway_core.engine.resolve import candidates
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamRefused, UpstreamTimeout
from floway_core.gateway import Gateway
from floway_core.protocol import jsontext
from floway_core.provider import MAX_DISPATCHES, Refusal, UpstreamReply

LARGEST_REFUSAL = 2**20
"""Bytes of an error body that are kept."""


@dataclass(frozen=True)
class Attempt:
    """An attempt whose upstream has accepted the request."""

    context: AttemptContext
    dispatches: int
    reply: UpstreamReply


def attempt(gateway: Gateway, request: ClientRequest) -> Attempt:
    """Find an upstream for ``request`` and have it accept it. The caller closes ``reply.body``.

    :raises GatewayError: nobody serves the model, the upstream refused, or it cannot be reached.
    :raises ClientGone: the client hung up meanwhile.
    """
    candidate = candidates(gateway, request.body["model"])[0]
    provider = gateway.providers.by_kind[candidate.upstream.kind]
    context = AttemptContext(str(uuid7()), request, candidate.upstream, provider, candidate.model.id)
    gateway.providers.hooks[candidate.upstream.kind].call("on_attempt_start", context)
    return _dispatch(gateway, context)


def _dispatch(gateway: Gateway, context: AttemptContext) -> Attempt:
    hooks = gateway.providers.hooks[context.upstream.kind]
    for number in range(1, MAX_DISPATCHES + 1):
        prepared = ResponsesRequestContext(context, number, body=_copy_of_body(context))
        hooks.call("prepare_responses_request", prepared)
        reply = context.provider.send(prepared)
        if 200 <= reply.status < 300:
            return Attempt(context, number, reply)
        try:
            content = _read_refusal(gateway, context, reply)
        finally:
            reply.body.close()
        refusal = Refusal(reply.status, reply.headers, content)
        if not context.provider.recover(prepared, refusal):
            break
    raise UpstreamRefused(refusal.status, refusal.headers, refusal.content)


def _copy_of_body(context: AttemptContext) -> dict:
    try:
        return {**jsontext.loads(jsontext.dumps(context.request.body)), "model": context.model}
    except ValueError:
        raise GatewayError(400, "The request body is nested too deeply.") from None


def _read_refusal(gateway: Gateway, context: AttemptContext, reply: UpstreamReply) -> bytes:
    """The body of an error answer. What is wrong with it must not hide the refusal itself, so it may be cut."""
    content = b""
    try:
        while len(content) < LARGEST_REFUSAL:
            data = reply.body.read(gateway.settings.idle_timeout, context.request.client)
            if data is None:
                raise UpstreamTimeout(f"The upstream {context.upstream.name!r} fell silent.")
            if not data:
                break
            content += data
    except UpstreamBroken:
        pass
    return content
