"""The parts of an answer that a client of the generateContent API wants to see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from floway_core.contexts import ClientRequest
from floway_gemini.client.generation import is_wrapped, read_schema, read_stop_sequences
from floway_gemini.client.names import changed_names
from floway_gemini.client.requests import request_body
from floway_gemini.client.tools import function_names
from floway_gemini.fields import Message

SDK_HEADER = "x-goog-api-client"
"""Sent by every SDK of Google."""


@dataclass(frozen=True)
class ClientView:
    """Options for the answer to one request."""

    model: str
    """The name of the model that it requested."""
    response_id: str
    is_array: bool = False
    """Whether a stream is an array instead of events."""
    is_google_sdk: bool = False
    """Whether the client is an SDK of Google."""
    shows_thoughts: bool = False
    stop_sequences: Sequence[str] = ()
    is_wrapped: bool = False
    """Whether the gateway has wrapped the client's JSON schema in an object, which the client must not see."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The client's names of functions by the model's names, where they differ."""


def wants_array(client_request: ClientRequest) -> bool:
    """Return whether a client that streams wants an array instead of events."""
    return client_request.original is not None and client_request.original.query.get("alt") != "sse"


def client_view(client_request: ClientRequest) -> ClientView:
    """Read the options from a request."""
    original, model = client_request.original, str(client_request.body["model"])
    assert original
    is_array = wants_array(client_request)
    response_id = client_request.id.replace("-", "")
    is_google_sdk = SDK_HEADER in original.headers
    if client_request.untranslatable:  # the answer to an untranslatable request is passed through unchanged
        return ClientView(model, response_id, is_array, is_google_sdk)
    body = request_body(original)
    config = Message(body).message("generationConfig") or Message({})
    thinking = config.message("thinkingConfig") or Message({})
    return ClientView(
        model,
        response_id,
        is_array,
        is_google_sdk,
        shows_thoughts=thinking.flag("includeThoughts"),
        stop_sequences=read_stop_sequences(config),
        is_wrapped=is_wrapped(read_schema(config)),
        names=changed_names(function_names(body)),
    )
