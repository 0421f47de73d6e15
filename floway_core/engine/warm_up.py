"""Answer a request that asks for no output and only prepares the next one."""

from floway_core.contexts import ClientRequest
from floway_core.conversation.unstored import UnstoredResponses
from floway_core.engine.serve import order_candidates, with_turn
from floway_core.protocol.responses import blank_response
from floway_core.protocol.synthesis import synthesize_events
from floway_core.runtime.gateway import Gateway

NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


def warm_up(gateway: Gateway, request: ClientRequest, unstored: UnstoredResponses) -> bytes:
    """Return the events of an empty response, which is added to ``unstored``. No upstream is used.

    :param request: with ``store: false`` in its body, so that only the connection knows the response.
    :raises GatewayError: no upstream serves the model, or the conversation cannot be continued.
    """
    request, turn = with_turn(gateway, request, unstored)
    order_candidates(gateway, request, turn)
    if turn.remember:
        turn.remember([], None)
    fields = {name: request.body[name] for name in ("instructions", "metadata") if name in request.body}
    response = {**blank_response(request.body["model"]), **fields, **turn.overrides, "store": False}
    return b"".join(synthesize_events({**response, "status": "completed", "usage": NO_USAGE}))
