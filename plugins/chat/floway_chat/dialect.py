"""The dialect ``chat``: clients that speak Chat Completions."""

from collections.abc import Iterable
from typing import Any

from floway_chat import NAME, errors
from floway_chat.events.completion import build_completion
from floway_chat.events.options import read_options
from floway_chat.events.pass_through import ChatAnswerReader
from floway_chat.events.to_chat import ChatTranslator
from floway_chat.requests.to_responses import read_request
from floway_core.contexts import ClientRequest
from floway_core.dialect import (
    AnswerReader,
    Dialect,
    DialectRequest,
    ErrorAnswer,
    Operation,
    ReadRequest,
    Route,
    Translator,
)
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext, sse


class ChatDialect(Dialect):
    """``POST /v1/chat/completions``. The model list at ``/v1/models`` is core's: both APIs have the same."""

    name = NAME
    prefixes = ("/v1/chat", "/chat")
    done = sse.DONE

    def __init__(self, restores_reasoning: bool = True) -> None:
        """:param restores_reasoning: whether reasoning returns to the history that a client sends without it."""
        self._restores_reasoning = restores_reasoning

    def routes(self) -> Iterable[Route]:
        return [Route(f"{prefix}/chat/completions", Operation.RESPOND) for prefix in ("/v1", "")]

    def read(self, request: DialectRequest) -> ReadRequest:
        return read_request(request, restores_reasoning=self._restores_reasoning)

    def translator(self, client_request: ClientRequest) -> Translator:
        return ChatTranslator(read_options(client_request))

    def response(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        return build_completion(response, read_options(client_request))

    def error(self, error: GatewayError, request_id: str) -> ErrorAnswer:
        raw = error.upstream_body(self.name)
        if raw is not None and errors.is_complete(raw):
            return ErrorAnswer(error.status, raw)
        return ErrorAnswer(error.status, jsontext.dumps({**error.body(), "error": errors.error_object(error)}))

    def reader(self, client_request: ClientRequest) -> AnswerReader:
        return ChatAnswerReader()
