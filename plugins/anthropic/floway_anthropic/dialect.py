"""The dialect ``messages``: the Messages API for clients."""

from collections.abc import Iterable, Sequence
from typing import Any

from floway_anthropic.client import models
from floway_anthropic.client.events import PING, MessageEvents
from floway_anthropic.client.messages import to_message
from floway_anthropic.client.requests import read_request
from floway_anthropic.client.tokens import count_tokens
from floway_anthropic.client.view import client_view
from floway_anthropic.errors import error_body
from floway_anthropic.reader import MessageReader
from floway_core.contexts import ClientRequest
from floway_core.dialect import Claims, Dialect, DialectRequest, ErrorAnswer, Operation, ReadRequest, Route
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import Model

NAME = "messages"
COUNT_PATH = "/v1/messages/count_tokens"


class MessagesDialect(Dialect):
    """Serves clients of the Messages API: Claude Code, Anthropic's SDKs and others."""

    name = NAME
    key_headers = ("x-api-key",)
    prefixes = ("/v1/messages", "/messages")
    claims = Claims(headers=("anthropic-version",))
    request_id_header = "request-id"
    keepalive = PING

    def routes(self) -> Iterable[Route]:
        return (
            Route("/v1/messages", Operation.RESPOND),
            Route("/messages", Operation.RESPOND),
            Route(COUNT_PATH, Operation.COUNT_TOKENS),
            Route("/messages/count_tokens", Operation.COUNT_TOKENS),
            Route("/v1/models", Operation.LIST_MODELS),
            Route("/v1/models/<path:model>", Operation.GET_MODEL),
        )

    def read(self, request: DialectRequest) -> ReadRequest:
        return read_request(request, counts=request.path.endswith("/count_tokens"))

    def translator(self, client_request: ClientRequest) -> MessageEvents:
        return MessageEvents(client_view(client_request), client_request.id)

    def response(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        return to_message(response, client_view(client_request))

    def token_count(self, request: DialectRequest, count: int) -> dict[str, Any]:
        return {"input_tokens": count}

    def estimate_tokens(self, client_request: ClientRequest) -> int:
        return count_tokens(client_request.body)

    def models(self, request: DialectRequest, available: Sequence[Model]) -> dict[str, Any]:
        return models.to_page(request.query, available)

    def model(self, request: DialectRequest, model: Model) -> dict[str, Any]:
        return models.to_entry(model)

    def error(self, error: GatewayError, request_id: str) -> ErrorAnswer:
        raw = error.upstream_body(self.name)
        return ErrorAnswer(error.status, jsontext.dumps(error_body(error, request_id)) if raw is None else raw)

    def reader(self, client_request: ClientRequest) -> MessageReader:
        return MessageReader()
