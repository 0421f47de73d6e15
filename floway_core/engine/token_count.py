"""Count the input tokens of a request: by the upstream that would serve it, or by an estimate."""

import logging
from collections.abc import Callable
from dataclasses import replace

from floway_core.contexts import AttemptContext, ClientRequest
from floway_core.conversation.records import Turn
from floway_core.engine.attempt import prepare_dispatch
from floway_core.engine.routing import Candidate
from floway_core.engine.serve import order_candidates, with_turn
from floway_core.errors import GatewayError
from floway_core.protocol.token_estimate import estimate_tokens
from floway_core.provider import Provider
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugin_calls import log_failures

log = logging.getLogger("floway.engine")

UPSTREAM, ESTIMATE = "upstream", "estimate"


def count_input_tokens(
    gateway: Gateway, request: ClientRequest, estimate: Callable[[ClientRequest], int | None]
) -> tuple[int, str]:
    """Return the number of input tokens of ``request``, and its source: ``UPSTREAM`` or ``ESTIMATE``.

    :param request: without the history that it continues.
    :param estimate: the estimate of the request's dialect; None for core's.
    :raises GatewayError: no upstream serves the model, the conversation cannot be continued, or only the upstream could
        have counted, and has not.
    """
    request, turn = with_turn(gateway, request)
    request = replace(request, body={**request.body, "input": list(turn.input.items)})  # all of it is counted
    candidate = order_candidates(gateway, request, turn)[0]
    count = _ask_upstream(gateway, request, turn, candidate)
    if count is not None:
        return count, UPSTREAM
    if request.untranslatable:
        raise request.untranslatable
    estimated = estimate(request)
    return estimate_tokens(request.body) if estimated is None else estimated, ESTIMATE


def _ask_upstream(gateway: Gateway, request: ClientRequest, turn: Turn, candidate: Candidate) -> int | None:
    """Return the count of the candidate's upstream; None if it cannot count or fails: then an estimate is used."""
    provider = gateway.providers.by_kind[candidate.upstream.kind]
    if type(provider).count_tokens is Provider.count_tokens:
        return None
    context = AttemptContext(
        id=f"{request.id}.1",
        request=request,
        upstream=candidate.upstream,
        provider=provider,
        model=candidate.upstream_name,
    )
    try:
        with log_failures(candidate.upstream, "count_tokens"):
            gateway.providers.hooks[candidate.upstream.kind].call("on_attempt_start", context)
            return provider.count_tokens(prepare_dispatch(gateway, context, candidate, turn))
    except GatewayError as error:
        if request.untranslatable:  # no estimate is possible, so the client gets the error
            raise
        log.info("Upstream %s did not count the tokens of a request: %s", candidate.upstream.name, error.code)
    return None
