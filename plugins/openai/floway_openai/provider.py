"""The provider of kind ``openai``: requests go to the upstream as the client made them."""

from collections.abc import Sequence

import requests

from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, Upstream
from floway_core.errors import GatewayError, NoModelList, UpstreamRefused
from floway_core.protocol import jsontext
from floway_core.provider import ErrorResponse, Model, Provider, UpstreamResponse
from floway_core.upstream import HttpClient
from floway_openai import connections, headers, model_lists
from floway_openai.connections import Connection

MODELS_TIMEOUT = 10.0
"""Seconds for connecting, and for each read."""


class OpenAIProvider(Provider):
    """Speaks to any upstream that offers the Responses API for an API key."""

    kind = connections.KIND

    def __init__(self, services: Services) -> None:
        self._services = services
        self._http = HttpClient(services.settings)
        self._lists = model_lists.ModelLists(self._fetch_models)

    # ------------------------------------------------------------------------------------------------------- models
    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        return self._lists.models(upstream)

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        return self._lists.at_hand(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        connection = connections.read(self._services, upstream)
        if connection.models:
            self._knock(upstream, connection)
        return self._lists.ask(upstream)

    def supports_compaction(self, upstream: Upstream) -> bool:
        return connections.read(self._services, upstream).supports_compaction

    def _knock(self, upstream: Upstream, connection: Connection) -> None:
        """See that somebody is there, where the models are named by the operator: whoever names them may do so because
        there is no list, or none for this key.

        :raises GatewayError: nobody is there, or the key is refused.
        """
        answer = self._get_models(connection)
        if answer.status_code == 401:
            raise NoModelList(f"The upstream {upstream.name!r}", 401)

    def _get_models(self, connection: Connection) -> requests.Response:
        url = f"{connection.base_url}/models"
        return self._http.fetch("GET", url, connection.secret_headers(), timeout=MODELS_TIMEOUT)

    def _fetch_models(self, upstream: Upstream) -> list[Model]:
        connection = connections.read(self._services, upstream)
        if connection.models:
            return [Model(name, upstream.name) for name in connection.models]
        answer = self._get_models(connection)
        if answer.status_code != 200:
            who = f"The upstream {upstream.name!r}"
            raise NoModelList(who, answer.status_code, answer.headers.get("content-type"))
        return model_lists.parse(answer.content)

    # ------------------------------------------------------------------------------------------------------- health
    def unavailable_reason(self, upstream: Upstream) -> str | None:
        connections.read(self._services, upstream)
        return None

    def base_url(self, upstream: Upstream) -> str | None:
        return connections.read(self._services, upstream).base_url

    # ------------------------------------------------------------------------------------------------------ sending
    def begin(self, ctx: AttemptContext) -> Connection:
        """The connection that all dispatches of the attempt use.

        :raises GatewayError: 503, it cannot be used.
        """
        return connections.read(self._services, ctx.upstream)

    def prepare(self, ctx: ResponsesRequestContext) -> None:
        """Give ``ctx`` its headers. The body goes as the client made it."""
        ctx.headers = headers.for_upstream(ctx.attempt.request, stream=ctx.body.get("stream") is True)
        if ctx.body.get("prompt") and not ctx.body["input"]:
            del ctx.body["input"]  # a stored prompt may stand alone

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        connection: Connection = ctx.attempt.provider_state
        try:
            body = jsontext.dumps(ctx.body)
        except ValueError as error:
            raise GatewayError(400, f"The request cannot be written as JSON: {error}.") from error
        # Added only here, because observers see the headers of the context.
        sent = {**ctx.headers, **connection.secret_headers()}
        reply = self._http.stream(ctx, "POST", f"{connection.base_url}/responses", sent, body)
        reply.headers = [(name, value) for name, value in reply.headers if name not in headers.PRIVATE]
        return reply

    def handle_error_response(self, ctx: ResponsesRequestContext, refusal: ErrorResponse) -> bool:
        """Nothing can be mended. But some upstreams quote the key that they refuse, and it is not the client's."""
        connection: Connection = ctx.attempt.provider_state
        key = (connection.api_key or "").encode()
        if key and key in refusal.content:
            raise UpstreamRefused(refusal.status, refusal.headers, refusal.content.replace(key, b"***"))
        return False
