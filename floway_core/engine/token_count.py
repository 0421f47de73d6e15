"""Counting the input tokens of a request: by the upstream that would serve it, or by an estimate."""

import logging

from floway_core.contexts import ClientRequest
from floway_core.engine.routing import find_candidates
from floway_core.protocol.token_estimate import estimate_tokens
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

UPSTREAM, ESTIMATE = "upstream", "estimate"


def count_input_tokens(gateway: Gateway, request: ClientRequest) -> tuple[int, str]:
    """Return the number of input tokens of ``request``, and who counted: ``UPSTREAM`` or ``ESTIMATE``.

    :raises GatewayError: no upstream serves the model, or the conversation cannot be continued.
    """
    find_candidates(gateway, request.api_key, request.body["model"])
    return estimate_tokens(request.body), ESTIMATE
