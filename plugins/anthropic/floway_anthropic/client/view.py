"""What a client of the Messages API has asked to see of an answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from floway_anthropic.client.requests import read_stop_sequences, shows_thinking, shows_thinking_text
from floway_core.contexts import ClientRequest


@dataclass(frozen=True)
class ClientView:
    """What the client sees."""

    model: str
    """The name of the model that it requested."""
    shows_thinking: bool = True
    """Whether there are thinking blocks."""
    shows_thinking_text: bool = True
    """Whether they show the text."""
    stop_sequences: Sequence[str] = ()


def client_view(call: ClientRequest) -> ClientView:
    """Return what the client of a request sees."""
    body = call.original.body if call.original else {}
    return ClientView(
        model=str(call.body["model"]),
        shows_thinking=shows_thinking(body),
        shows_thinking_text=shows_thinking_text(body),
        # an answer to what cannot be translated is the upstream's own, and not changed
        stop_sequences=[] if call.untranslatable else read_stop_sequences(body.get("stop_sequences")),
    )
