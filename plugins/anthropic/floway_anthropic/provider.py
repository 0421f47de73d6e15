"""The provider ``anthropic``: upstreams that speak the Messages API with an API key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import requests

from floway_anthropic import __version__
from floway_anthropic.dialect import COUNT_PATH, NAME
from floway_anthropic.upstream import pass_through
from floway_anthropic.upstream.document import convert_document
from floway_anthropic.upstream.events import ResponseEvents
from floway_anthropic.upstream.models import MAX_PAGES, PAGE_SIZE, parse_page
from floway_anthropic.upstream.requests import convert_request
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Upstream
from floway_core.errors import NoModelList
from floway_core.provider import ConnectionOptions, ErrorResponse, Model, UpstreamOption, UpstreamResponse
from floway_core.storage.connections import Connection
from floway_core.upstream.keyed import MODEL_LIST_TIMEOUT_SECONDS, KeyedProvider, encode_body
from floway_core.upstream.token_counts import read_count
from floway_core.upstream.translated import TranslatedBody

PATH = "/v1/messages"
COUNT_FIELDS = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
"""Fields of a request that the endpoint for counting accepts."""


@dataclass
class MessagesAttempt:
    """The state of an attempt (``ctx.provider_state``)."""

    details: Mapping[str, Any] = field(default_factory=dict)
    """The model's entry in the upstream's list; empty if it has none."""
    custom_tools: frozenset[str] = frozenset()
    """Names of the client's tools that take free text."""
    passes_through: bool = False
    """Whether the upstream gets the client's request as it is."""


class AnthropicProvider(KeyedProvider):
    """Sends requests to upstreams with the Messages API: unchanged if the client speaks it, else translated."""

    kind = "anthropic"
    dialect = NAME
    accepts_shallow_copy = True
    connection_options = ConnectionOptions(
        default_base_url="https://api.anthropic.com",
        example_base_url="https://api.anthropic.com",
        key_is_optional=True,
        options=(UpstreamOption("key_header", "How the key is sent.", choices=("x-api-key", "bearer")),),
    )
    models_path = f"/v1/models?limit={PAGE_SIZE}"
    private_headers = frozenset({"anthropic-organization-id", "anthropic-workspace-id", "request-id"})

    # --------------------------------------------------------------------------------------------------- connections
    def connection(self, upstream: Upstream) -> Connection:
        connection = super().connection(upstream)
        return replace(connection, base_url=connection.base_url.removesuffix("/v1"))

    def secret_headers(self, connection: Connection) -> dict[str, str]:
        if connection.api_key is None:
            return dict(connection.headers)
        if connection.options.get("key_header") == "bearer":
            return {**connection.headers, "authorization": f"Bearer {connection.api_key}"}
        return {**connection.headers, "x-api-key": connection.api_key}

    # -------------------------------------------------------------------------------------------------------- models
    def get(self, connection: Connection, path: str) -> requests.Response:
        headers = {"anthropic-version": pass_through.VERSION, **self.secret_headers(connection)}
        url = f"{connection.base_url}{path}"
        return self.http.fetch("GET", url, headers, timeout=MODEL_LIST_TIMEOUT_SECONDS)

    def request_models(self, upstream: Upstream) -> Sequence[Model]:
        connection = self.connection(upstream)
        if connection.models:
            return [Model(name, upstream.name) for name in connection.models]
        models: list[Model] = []
        next_id: str | None = ""
        for _ in range(MAX_PAGES):
            after = f"&after_id={next_id}" if next_id else ""
            response = self.get(connection, f"{self.models_path}{after}")
            subject = f"The upstream {upstream.name!r}"
            if response.status_code != 200:
                raise NoModelList(subject, response.status_code, response.headers.get("content-type"))
            page, next_id = parse_page(response.content, subject)
            models += page
            if next_id is None:
                break
        return models

    # ------------------------------------------------------------------------------------------------------- sending
    def start_attempt(self, ctx: AttemptContext) -> MessagesAttempt:
        """Look up the model's entry, and the names of the tools whose calls must be converted back."""
        model = self.model_lists.find(ctx.upstream, ctx.model)
        tools = ctx.request.body.get("tools") or []
        names = (tool.get("name") for tool in tools if isinstance(tool, dict) and tool.get("type") == "custom")
        custom_tools = frozenset(name for name in names if isinstance(name, str))
        return MessagesAttempt(model.details if model else {}, custom_tools)

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Write the upstream's request to ``ctx``, without the key.

        :raises GatewayError: 400, the request cannot be translated.
        """
        request, state = ctx.attempt.request, ctx.attempt.provider_state
        original = request.original if request.dialect == NAME else None
        state.passes_through = original is not None and not pass_through.is_overridden(ctx)
        headers = {"content-type": "application/json", "user-agent": f"floway-anthropic/{__version__}"}
        if state.passes_through and original:
            ctx.body = {**original.body, "model": ctx.attempt.model}
            ctx.headers = {**headers, **pass_through.upstream_headers(request.headers)}
            return
        if request.untranslatable:  # an alias has changed the request, so it cannot be passed through
            raise request.untranslatable
        ctx.body = convert_request(ctx, state.details)
        ctx.headers = {**headers, "anthropic-version": pass_through.VERSION}

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        state, original = ctx.attempt.provider_state, ctx.attempt.request.original
        if state.passes_through and original:
            body = pass_through.write_body(original, ctx.attempt.model)
            response = self.post(ctx, PATH + pass_through.query_string(original), body)
            response.dialect = NAME
            return response
        response = self.post(ctx, PATH, encode_body(ctx.body))
        if 200 <= response.status < 300:
            model, custom_tools = ctx.attempt.model, state.custom_tools
            translator = ResponseEvents(model, custom_tools)
            response.body = TranslatedBody(
                response.body, translator, lambda content: convert_document(content, model, custom_tools)
            )
        return response

    def refuses_reasoning(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Return whether the upstream refuses thinking that another one has signed.

        Its message is "Invalid `signature` in `thinking` block".
        """
        is_passed_through = ctx.attempt.provider_state.passes_through
        return response.status == 400 and not is_passed_through and b"signature` in `thinking`" in response.content

    def count_tokens(self, ctx: ResponsesRequestContext) -> int | None:
        state, original = ctx.attempt.provider_state, ctx.attempt.request.original
        if state.passes_through and original:
            body = pass_through.write_body(original, ctx.attempt.model)
        else:
            body = encode_body({name: ctx.body[name] for name in COUNT_FIELDS if name in ctx.body})
        connection = self.connection(ctx.attempt.upstream)
        headers = {**ctx.headers, **self.secret_headers(connection)}
        query = pass_through.query_string(original) if state.passes_through and original else ""
        url = f"{connection.base_url}{COUNT_PATH}{query}"
        response = self.http.fetch("POST", url, headers, body, timeout=MODEL_LIST_TIMEOUT_SECONDS)
        is_needed = ctx.attempt.request.untranslatable is not None
        return read_count(response, "input_tokens", secret=connection.api_key, is_needed=is_needed)
