"""The dialect ``generate-content``: the generateContent API for clients."""

from collections.abc import Iterable, Sequence
from typing import Any

from floway_core.contexts import ClientRequest
from floway_core.dialect import (
    JSON_ARRAY,
    Claims,
    Dialect,
    DialectRequest,
    ErrorAnswer,
    Operation,
    ReadRequest,
    Route,
    StreamFraming,
)
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.provider import Model
from floway_gemini.client import models
from floway_gemini.client.answers import to_answer
from floway_gemini.client.events import KEEPALIVE, AnswerEvents
from floway_gemini.client.requests import read_request
from floway_gemini.client.view import SDK_HEADER, client_view, wants_array
from floway_gemini.errors import error_body
from floway_gemini.reader import ContentReader

NAME = "generate-content"
VERSIONS = ("/v1beta", "/v1")
KEY_HEADER, KEY_PARAMETER = "x-goog-api-key", "key"


class GenerateContentDialect(Dialect):
    """Serves clients of the generateContent API: Gemini CLI, Google's Gen AI SDKs and others."""

    name = NAME
    key_headers = (KEY_HEADER,)
    key_parameters = (KEY_PARAMETER,)
    prefixes = ("/v1beta",)
    claims = Claims(headers=(KEY_HEADER, SDK_HEADER), parameters=(KEY_PARAMETER,))
    keepalive = KEEPALIVE

    def routes(self) -> Iterable[Route]:
        for version in VERSIONS:
            model = f"{version}/models/<path:model>"
            yield Route(f"{model}:generateContent", Operation.RESPOND, stream=False)
            yield Route(f"{model}:streamGenerateContent", Operation.RESPOND, stream=True)
            yield Route(f"{model}:countTokens", Operation.COUNT_TOKENS)
            yield Route(f"{version}/models", Operation.LIST_MODELS)
            yield Route(model, Operation.GET_MODEL)

    def read(self, request: DialectRequest) -> ReadRequest:
        return read_request(request)

    def translator(self, client_request: ClientRequest) -> AnswerEvents:
        return AnswerEvents(client_view(client_request))

    def framing(self, client_request: ClientRequest) -> StreamFraming | None:
        return JSON_ARRAY if wants_array(client_request) else None

    def response(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        return to_answer(response, client_view(client_request))

    def token_count(self, request: DialectRequest, count: int) -> dict[str, Any]:
        return {"totalTokens": count}

    def models(self, request: DialectRequest, available: Sequence[Model]) -> dict[str, Any]:
        return models.to_page(request.query, available)

    def model(self, request: DialectRequest, model: Model) -> dict[str, Any]:
        return models.to_entry(model)

    def error(self, error: GatewayError, request_id: str) -> ErrorAnswer:
        raw = error.upstream_body(self.name)
        return ErrorAnswer(error.status, jsontext.dumps(error_body(error)) if raw is None else raw)

    def reader(self, client_request: ClientRequest) -> ContentReader:
        return ContentReader()
