"""The parts of an answer that a client of the Messages API wants to see."""

from collections.abc import Sequence
from dataclasses import dataclass

from floway_anthropic.client.requests import read_stop_sequences, shows_thinking, shows_thinking_text
from floway_core.contexts import ClientRequest


@dataclass(frozen=True)
class ClientView:
    """Options for the answer to one request."""

    model: str
    """The name of the model that it requested."""
    shows_thinking: bool = True
    """Whether the answer contains thinking blocks."""
    shows_thinking_text: bool = True
    """Whether thinking blocks show the text."""
    stop_sequences: Sequence[str] = ()


def client_view(client_request: ClientRequest) -> ClientView:
    """Read the options from a request."""
    body = client_request.original.body if client_request.original else {}
    return ClientView(
        model=str(client_request.body["model"]),
        shows_thinking=shows_thinking(body),
        shows_thinking_text=shows_thinking_text(body),
        # the answer to an untranslatable request is passed through unchanged
        stop_sequences=[] if client_request.untranslatable else read_stop_sequences(body.get("stop_sequences")),
    )
