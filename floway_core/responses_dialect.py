"""The Responses API as a dialect. It is the only dialect in core."""

from collections.abc import Iterable, Sequence
from typing import Any

from floway_core.contexts import ClientRequest, DialectRequest
from floway_core.dialect import Dialect, Operation, ReadRequest, Route
from floway_core.protocol import sse
from floway_core.provider import Model


class ResponsesDialect(Dialect):
    """The Responses API. Requests and answers are not converted.

    A plugin may serve it under further paths: it registers a subclass with another ``name`` and other routes.
    """

    name = "responses"
    key_headers: Sequence[str] = ("x-api-key",)
    done = sse.DONE
    keeps_original = False

    def routes(self) -> Iterable[Route]:
        for prefix in ("/v1", ""):
            yield Route(f"{prefix}/responses", Operation.RESPOND)
            yield Route(f"{prefix}/responses", Operation.OPEN_WEBSOCKET)
            yield Route(f"{prefix}/responses/compact", Operation.COMPACT, stream=False)
            yield Route(f"{prefix}/responses/input_tokens", Operation.COUNT_TOKENS)
            yield Route(f"{prefix}/models", Operation.LIST_MODELS)
            yield Route(f"{prefix}/models/<path:model>", Operation.GET_MODEL)

    def read(self, request: DialectRequest) -> ReadRequest:
        """Return the body. Core checks its fields, as for all dialects."""
        return ReadRequest(request.body, stream=request.body.get("stream") is True)

    def response(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        """Return the response object."""
        return response

    def compaction(self, client_request: ClientRequest, response: dict[str, Any]) -> dict[str, Any]:
        """Return a ``response.compaction`` object."""
        fields = {name: response.get(name) for name in ("id", "created_at", "output", "usage")}
        return {**fields, "object": "response.compaction"}

    def token_count(self, request: DialectRequest, count: int) -> dict[str, Any]:
        """Return a ``response.input_tokens`` object."""
        return {"object": "response.input_tokens", "input_tokens": count}

    def models(self, request: DialectRequest, models: Sequence[Model]) -> dict[str, Any]:
        """Return a list object."""
        return {"object": "list", "data": [self.model(request, model) for model in models]}

    def model(self, request: DialectRequest, model: Model) -> dict[str, Any]:
        """Return a model object."""
        return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
