"""The provider ``openai``: it sends the client's requests to the upstream unchanged."""

from collections.abc import Sequence

import requests

from floway_core.contexts import ResponsesRequestContext, Services, Upstream
from floway_core.errors import GatewayError, NoModelList, UpstreamRefused
from floway_core.protocol import jsontext
from floway_core.provider import ErrorResponse, Model, Provider, UpstreamResponse
from floway_core.upstream import HttpClient
from floway_openai import connections, headers, model_lists
from floway_openai.connections import Connection

MODEL_LIST_TIMEOUT_SECONDS = 10.0
"""For connecting, and for each read."""


class OpenAIProvider(Provider):
    """Sends requests to upstreams that serve the Responses API for an API key."""

    kind = connections.KIND

    def __init__(self, services: Services) -> None:
        self._services = services
        self._http = HttpClient(services.settings)
        self._model_lists = model_lists.ModelLists(self._request_models)

    # ------------------------------------------------------------------------------------------------------- models
    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        return self._model_lists.wait_for(upstream)

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        return self._model_lists.cached(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        connection = connections.read(self._services, upstream)
        if connection.models:
            self._check_key(upstream, connection)
        return self._model_lists.refresh(upstream)

    def supports_compaction(self, upstream: Upstream) -> bool:
        return connections.read(self._services, upstream).supports_compaction

    def _check_key(self, upstream: Upstream, connection: Connection) -> None:
        """Check that an upstream whose models the operator has named answers, and accepts the key.

        Any answer but 401 will do: such an upstream may have no model list, or none for this key.

        :raises GatewayError: it cannot be reached, or refuses the key.
        """
        if self._get_models(connection).status_code == 401:
            raise NoModelList(f"The upstream {upstream.name!r}", 401)

    def _get_models(self, connection: Connection) -> requests.Response:
        url = f"{connection.base_url}/models"
        return self._http.fetch("GET", url, connection.secret_headers(), timeout=MODEL_LIST_TIMEOUT_SECONDS)

    def _request_models(self, upstream: Upstream) -> list[Model]:
        connection = connections.read(self._services, upstream)
        if connection.models:
            return [Model(name, upstream.name) for name in connection.models]
        response = self._get_models(connection)
        if response.status_code != 200:
            content_type = response.headers.get("content-type")
            raise NoModelList(f"The upstream {upstream.name!r}", response.status_code, content_type)
        return model_lists.parse_models(response.content)

    # ------------------------------------------------------------------------------------------------------- health
    def unavailable_reason(self, upstream: Upstream) -> str | None:
        connections.read(self._services, upstream)
        return None

    def base_url(self, upstream: Upstream) -> str | None:
        return connections.read(self._services, upstream).base_url

    # ------------------------------------------------------------------------------------------------------ sending
    def load_connection(self, upstream: Upstream) -> Connection:
        """Load the connection that all dispatches of an attempt use.

        :raises GatewayError: 503, it is missing or cannot be decrypted.
        """
        return connections.read(self._services, upstream)

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Set the headers of a dispatch. The body stays as the client sent it."""
        ctx.headers = headers.for_upstream(ctx.attempt.request, stream=ctx.body.get("stream") is True)
        if ctx.body.get("prompt") and not ctx.body["input"]:
            del ctx.body["input"]  # a stored prompt needs no input

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        connection: Connection = ctx.attempt.provider_state
        try:
            body = jsontext.dumps(ctx.body)
        except ValueError as error:
            raise GatewayError(400, f"The request cannot be written as JSON: {error}.") from error
        # Secrets are added here and not to ctx.headers, because observers see those.
        all_headers = {**ctx.headers, **connection.secret_headers()}
        response = self._http.stream(ctx, "POST", f"{connection.base_url}/responses", all_headers, body)
        response.headers = [(name, value) for name, value in response.headers if name not in headers.PRIVATE]
        return response

    def handle_error_response(self, ctx: ResponsesRequestContext, refusal: ErrorResponse) -> bool:
        """Remove the key from the error, because some upstreams quote it. Never dispatch again."""
        connection: Connection = ctx.attempt.provider_state
        key = (connection.api_key or "").encode()
        if key and key in refusal.content:
            raise UpstreamRefused(refusal.status, refusal.headers, refusal.content.replace(key, b"***"))
        return False
