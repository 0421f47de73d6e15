"""Answer a request that asks for no output and only prepares the next one."""

from floway_core.contexts import ClientRequest
from floway_core.conversation.unstored import UnstoredResponses
from floway_core.engine.serve import order_candidates, with_turn
from floway_core.protocol.responses import blank_response
from floway_core.protocol.synthesis import synthesize_events
from floway_core.runtime.gateway import Gateway

NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


def warm_up(gateway: Gateway, call: ClientRequest, unstored: UnstoredResponses) -> bytes:
    """Return the events of an empty response, which is added to ``unstored``. No upstream is used.

    :param call: with ``store: false`` in its body, so that only the connection knows the response.
    :raises GatewayError: no upstream serves the model, or the conversation cannot be continued.
    """
    call, turn = with_turn(gateway, call, unstored)
    order_candidates(gateway, call, turn)
    if turn.remember:
        turn.remember([], None)
    fields = {name: call.body[name] for name in ("instructions", "metadata") if name in call.body}
    response = {**blank_response(call.body["model"]), **fields, **turn.overrides, "store": False}
    return b"".join(synthesize_events({**response, "status": "completed", "usage": NO_USAGE}))
