"""Counting the input tokens of a request: by the upstream that would serve it, or by an estimate."""

import logging

from floway_core.contexts import AttemptContext, ClientRequest
from floway_core.conversation.records import Turn
from floway_core.engine import affinity
from floway_core.engine.attempt import prepare_dispatch
from floway_core.engine.routing import Candidate, find_candidates
from floway_core.engine.serve import with_turn
from floway_core.errors import ClientDisconnected, GatewayError
from floway_core.protocol.token_estimate import estimate_tokens
from floway_core.provider import Provider
from floway_core.runtime.gateway import Gateway
from floway_core.storage.db import DATABASE_ERRORS

log = logging.getLogger("floway.engine")

UPSTREAM, ESTIMATE = "upstream", "estimate"


def count_input_tokens(gateway: Gateway, request: ClientRequest) -> tuple[int, str]:
    """Return the number of input tokens of ``request``, and who counted: ``UPSTREAM`` or ``ESTIMATE``.

    :param request: without the history that it continues.
    :raises GatewayError: no upstream serves the model, or the conversation cannot be continued.
    """
    request, turn = with_turn(gateway, request)
    candidates = find_candidates(gateway, request.api_key, request.body["model"])
    candidate = affinity.order_candidates(candidates, turn.input)[0]
    count = _ask_upstream(gateway, request, turn, candidate)
    return (estimate_tokens(request.body), ESTIMATE) if count is None else (count, UPSTREAM)


def _ask_upstream(gateway: Gateway, request: ClientRequest, turn: Turn, candidate: Candidate) -> int | None:
    """Return the count of the candidate's upstream; None if it cannot count, or fails at it: an estimate will do."""
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
        gateway.providers.hooks[candidate.upstream.kind].call("on_attempt_start", context)
        return provider.count_tokens(prepare_dispatch(gateway, context, candidate, turn))
    except (ClientDisconnected, *DATABASE_ERRORS):
        raise
    except GatewayError as error:
        log.info("Upstream %s did not count the tokens of a request: %s", candidate.upstream.name, error.code)
    except Exception:  # a plugin may raise anything
        log.exception("The plugin of upstream %s failed to count tokens", candidate.upstream.name)
    return None
