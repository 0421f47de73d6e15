"""The Responses API as a codex CLI speaks it to the ChatGPT backend: its paths, and its form of the model list."""

from collections.abc import Iterable, Sequence
from typing import Any

from floway_core.contexts import DialectRequest
from floway_core.dialect import Claims, Operation, Route
from floway_core.provider import Model
from floway_core.responses_dialect import ResponsesDialect

PREFIX = "/backend-api/codex"
"""The paths for a CLI that has the gateway as its ``chatgpt_base_url``."""

CLIENT_VERSION = "client_version"
"""The query parameter with which the CLI asks for the catalogue in its native form."""


class CodexDialect(ResponsesDialect):
    """The paths of the ChatGPT backend, and the native catalogue there and at the paths of the OpenAI API."""

    name = "codex"
    prefixes = (PREFIX,)
    claims = Claims(parameters=(CLIENT_VERSION,))

    def routes(self) -> Iterable[Route]:
        return [
            Route(f"{PREFIX}/responses", Operation.RESPOND),
            Route(f"{PREFIX}/responses", Operation.OPEN_WEBSOCKET),  # after a 426 the CLI posts at once
            Route(f"{PREFIX}/responses/compact", Operation.COMPACT, stream=False),
            Route(f"{PREFIX}/models", Operation.LIST_MODELS),
            Route("/v1/models", Operation.LIST_MODELS),
            Route("/models", Operation.LIST_MODELS),
        ]

    def models(self, request: DialectRequest, models: Sequence[Model]) -> dict[str, Any]:
        """Return the upstreams' own catalogue entries, of those models that have one."""
        if CLIENT_VERSION not in request.query:
            return super().models(request, models)
        return {"models": [_native_entry(model) for model in models if model.details]}


def _native_entry(model: Model) -> dict[str, Any]:
    """Return a catalogue entry under the name that clients use."""
    name = model.upstream_name or model.id
    return {key: model.id if value == name else value for key, value in model.details.items()}
