"""The provider ``gemini``: upstreams that speak the generateContent API with an API key."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import requests

from floway_core.contexts import AttemptContext, ResponsesRequestContext, Upstream
from floway_core.errors import NoModelList, UpstreamRefused
from floway_core.provider import ConnectionOptions, ErrorResponse, Model, UpstreamResponse
from floway_core.storage.connections import Connection
from floway_core.upstream.keyed import MODEL_LIST_TIMEOUT_SECONDS, KeyedProvider, encode_body
from floway_core.upstream.token_counts import read_count
from floway_core.upstream.translated import TranslatedBody
from floway_gemini import __version__
from floway_gemini.dialect import KEY_HEADER, NAME
from floway_gemini.upstream import pass_through
from floway_gemini.upstream.events import ResponseEvents, convert_document
from floway_gemini.upstream.models import MAX_PAGES, PAGE_SIZE, parse_page
from floway_gemini.upstream.requests import convert_request

STREAM, WHOLE, COUNT = "streamGenerateContent", "generateContent", "countTokens"

INVALID_KEY = b"API_KEY_INVALID"
"""The reason in Google's error for a wrong key."""

_VERSION = re.compile(r"/v1(beta|alpha)?$")
"""The version of the API at the end of a base URL. Some documentation includes it."""


@dataclass
class ContentAttempt:
    """The state of an attempt (``ctx.provider_state``)."""

    details: Mapping[str, Any] = field(default_factory=dict)
    """The model's entry in the upstream's list; empty if it has none."""
    custom_tools: frozenset[str] = frozenset()
    """Names of the client's tools that take free text."""
    passes_through: bool = False
    """Whether the upstream gets the client's request as it is."""


class GeminiProvider(KeyedProvider):
    """Sends requests to upstreams with this API: unchanged if the client speaks it, else translated."""

    kind = "gemini"
    dialect = NAME
    accepts_shallow_copy = True
    connection_options = ConnectionOptions(
        default_base_url="https://generativelanguage.googleapis.com",
        example_base_url="https://generativelanguage.googleapis.com",
        key_is_optional=True,
    )
    models_path = f"/v1beta/models?pageSize={PAGE_SIZE}"

    # --------------------------------------------------------------------------------------------------- connections
    def connection(self, upstream: Upstream) -> Connection:
        connection = super().connection(upstream)
        return replace(connection, base_url=_VERSION.sub("", connection.base_url))

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        return {KEY_HEADER: api_key}

    # -------------------------------------------------------------------------------------------------------- models
    def request_models(self, upstream: Upstream) -> Sequence[Model]:
        connection = self.connection(upstream)
        if connection.models:
            return [Model(name, upstream.name) for name in connection.models]
        models: list[Model] = []
        next_token: str | None = ""
        for _ in range(MAX_PAGES):
            after = f"&pageToken={quote(next_token, safe='')}" if next_token else ""
            response = self.get(connection, f"{self.models_path}{after}")
            subject = f"The upstream {upstream.name!r}"
            if response.status_code != 200:
                raise _no_model_list(subject, response)
            page, next_token = parse_page(response.content, subject)
            models += page
            if next_token is None:
                break
        return models

    # ------------------------------------------------------------------------------------------------------- sending
    def start_attempt(self, ctx: AttemptContext) -> ContentAttempt:
        """Look up the model's entry, and the names of the tools whose calls must be converted back."""
        model = self.model_lists.find(ctx.upstream, ctx.model)
        tools = ctx.request.body.get("tools") or []
        names = (tool.get("name") for tool in tools if isinstance(tool, dict) and tool.get("type") == "custom")
        custom_tools = frozenset(name for name in names if isinstance(name, str))
        return ContentAttempt(model.details if model else {}, custom_tools)

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Write the upstream's request to ``ctx``, without the key.

        :raises GatewayError: 400, the request cannot be translated.
        """
        request, state = ctx.attempt.request, ctx.attempt.provider_state
        original = request.original if request.dialect == NAME else None
        state.passes_through = original is not None and not pass_through.is_overridden(ctx)
        ctx.headers = {"content-type": "application/json", "user-agent": f"floway-gemini/{__version__}"}
        if state.passes_through and original:
            ctx.body = original.body
            ctx.headers |= pass_through.upstream_headers(request.headers)
            return
        if request.untranslatable:  # an alias has changed the request, so it cannot be passed through
            raise request.untranslatable
        ctx.body = convert_request(ctx, state.details)

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        state, original = ctx.attempt.provider_state, ctx.attempt.request.original
        model = ctx.attempt.model
        if state.passes_through and original:
            streams = ctx.attempt.request.stream
            path = pass_through.path_of(model, STREAM if streams else WHOLE)
            query = pass_through.query_string(original, streams=streams)
            response = self.post(ctx, path + query, pass_through.write_body(original, model))
            response.dialect = NAME
            return response
        response = self.post(ctx, f"{pass_through.path_of(model, STREAM)}?alt=sse", encode_body(ctx.body))
        if 200 <= response.status < 300:
            response_id, custom_tools = ctx.attempt.request.id.replace("-", ""), state.custom_tools

            def make() -> ResponseEvents:
                return ResponseEvents(model, response_id, custom_tools)

            response.body = TranslatedBody(response.body, make(), lambda content: convert_document(content, make))
        return response

    def handle_error_response(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Turn Google's 400 for a wrong key into a 401: the operator's key is wrong, not the client's request."""
        if response.status == 400 and INVALID_KEY in response.content:
            raise UpstreamRefused(401, response.headers, response.content)
        return super().handle_error_response(ctx, response)

    def refuses_reasoning(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Return whether the upstream refuses another one's signature: "Corrupted thought signature."."""
        is_passed_through = ctx.attempt.provider_state.passes_through
        return response.status == 400 and not is_passed_through and b"thought signature" in response.content.lower()

    def count_tokens(self, ctx: ResponsesRequestContext) -> int | None:
        state, original = ctx.attempt.provider_state, ctx.attempt.request.original
        model, query = ctx.attempt.model, ""
        if state.passes_through and original:
            body = pass_through.write_body(original, model)
            query = pass_through.query_string(original, streams=False)
        else:
            body = encode_body({"generateContentRequest": {"model": f"models/{model}", **ctx.body}})
        connection = self.connection(ctx.attempt.upstream)
        headers = {**ctx.headers, **self.secret_headers(connection)}
        url = f"{connection.base_url}{pass_through.path_of(model, COUNT)}{query}"
        response = self.http.fetch("POST", url, headers, body, timeout=MODEL_LIST_TIMEOUT_SECONDS)
        is_needed = ctx.attempt.request.untranslatable is not None
        return read_count(response, "totalTokens", secret=connection.api_key, is_needed=is_needed)


def _no_model_list(subject: str, response: requests.Response) -> NoModelList:
    """Return the error for an answer that is not a model list. Google answers 400 to a wrong key."""
    status = 401 if INVALID_KEY in response.content else response.status_code
    return NoModelList(subject, status, response.headers.get("content-type"))
