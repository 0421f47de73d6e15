"""The base class of providers whose upstreams need only a URL and an API key."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from floway_core.contexts import ForwardContext, ResponsesRequestContext, Services, Upstream
from floway_core.errors import GatewayError, NoModelList, UpstreamRefused
from floway_core.protocol import jsontext
from floway_core.protocol.lazy_items import dumps_body
from floway_core.provider import (
    ConnectionOptions,
    ErrorResponse,
    ForwardedPath,
    Model,
    Problem,
    Provider,
    UpstreamResponse,
)
from floway_core.storage import connections
from floway_core.storage.connections import Connection
from floway_core.upstream.http import HttpClient
from floway_core.upstream.model_list_cache import ModelList, ModelListCache

MODEL_LIST_TIMEOUT_SECONDS = 10.0
"""For connecting, and for each read."""


OPENAI_PATHS = (
    ForwardedPath("/audio/speech"),
    ForwardedPath("/audio/transcriptions"),
    ForwardedPath("/audio/translations"),
    ForwardedPath("/completions"),
    ForwardedPath("/embeddings"),
    ForwardedPath("/images/edits", default_model="dall-e-2"),
    ForwardedPath("/images/generations", default_model="dall-e-2"),
    ForwardedPath("/images/variations", default_model="dall-e-2"),
    ForwardedPath("/moderations", default_model="omni-moderation-latest"),
    ForwardedPath("/rerank"),
)
"""Further paths of servers with OpenAI's API, for ``forwarded_paths``."""


class KeyedProvider(Provider):
    """Loads the connections of its upstreams and their models. A subclass implements ``send``.

    Override ``key_headers``, ``models_path`` and ``parse_models`` where the API differs from OpenAI's.
    """

    connection_options: ConnectionOptions = ConnectionOptions()
    models_path: str = "/models"
    """Path of the model list, appended to the base URL."""
    private_headers: frozenset[str] = frozenset()
    """Headers of answers that identify the operator's account, in lower case; no client sees them."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.http = HttpClient(services.settings)
        self.model_lists = ModelListCache(lambda upstream: ModelList(self.request_models(upstream), time.time()))

    # --------------------------------------------------------------------------------------------------- connections
    def connection(self, upstream: Upstream) -> Connection:
        """Read the connection of an upstream.

        :raises GatewayError: 503, it is missing or cannot be decrypted.
        """
        return connections.read_for_request(self.services, upstream)

    def key_headers(self, api_key: str) -> Mapping[str, str]:
        """Return the headers with the key."""
        return {"authorization": f"Bearer {api_key}"}

    def secret_headers(self, connection: Connection) -> dict[str, str]:
        """Return the headers that only the upstream may see: those of the operator, and those with the key."""
        return {**connection.headers, **(self.key_headers(connection.api_key) if connection.api_key else {})}

    def base_url(self, upstream: Upstream) -> str | None:
        return self.connection(upstream).base_url

    def find_problem(self, upstream: Upstream) -> Problem | None:
        self.connection(upstream)
        return None

    # -------------------------------------------------------------------------------------------------------- models
    def list_models(self, upstream: Upstream) -> Sequence[Model]:
        return self.model_lists.wait_for(upstream)

    def cached_models(self, upstream: Upstream) -> Sequence[Model] | None:
        return self.model_lists.cached(upstream)

    def fetch_models(self, upstream: Upstream) -> Sequence[Model]:
        connection = self.connection(upstream)
        # If the operator has named the models, the upstream may have no list, or none for this key.
        if connection.models and self.get(connection, self.models_path).status_code == 401:
            raise NoModelList(f"The upstream {upstream.name!r}", 401)
        return self.model_lists.refresh(upstream)

    def request_models(self, upstream: Upstream) -> Sequence[Model]:
        """Request the models of an upstream, unless the operator has named them.

        :raises GatewayError: there is no list.
        """
        connection = self.connection(upstream)
        if connection.models:
            return [Model(name, upstream.name) for name in connection.models]
        response = self.get(connection, self.models_path)
        if response.status_code != 200:
            content_type = response.headers.get("content-type")
            raise NoModelList(f"The upstream {upstream.name!r}", response.status_code, content_type)
        return self.parse_models(response.content)

    def parse_models(self, content: bytes) -> Sequence[Model]:
        """Parse a model list: ``{"data": [{"id": ...}, ...]}``.

        :raises GatewayError: 502, the content is no model list.
        """
        return parse_models(content)

    def get(self, connection: Connection, path: str) -> requests.Response:
        """Send a request of the gateway itself.

        :param path: appended to the base URL.
        :raises GatewayError: the upstream cannot be reached.
        """
        url, headers = f"{connection.base_url}{path}", self.secret_headers(connection)
        return self.http.fetch("GET", url, headers, timeout=MODEL_LIST_TIMEOUT_SECONDS)

    # ------------------------------------------------------------------------------------------------------- sending
    def post(
        self, ctx: ResponsesRequestContext, path: str, body: bytes, connection: Connection | None = None
    ) -> UpstreamResponse:
        """Send the request of one dispatch: ``ctx.headers``, the secret headers, and ``body``.

        :param path: appended to the base URL.
        :param connection: of the upstream, if the caller has already read it.
        :raises GatewayError: there is no answer.
        :raises ClientDisconnected: the client disconnected before the upstream answered.
        """
        return self._send(ctx, "POST", path, body, connection or self.connection(ctx.attempt.upstream))

    def forward(self, ctx: ForwardContext) -> UpstreamResponse:
        """Send a request of another API. Override to add to ``ctx.headers``."""
        return self._send(ctx, ctx.method, ctx.target, ctx.content, self.connection(ctx.attempt.upstream))

    def _send(
        self, ctx: ResponsesRequestContext, method: str, target: str, body: bytes, connection: Connection
    ) -> UpstreamResponse:
        # Secrets are added here and not to ctx.headers, which observers can see.
        headers = {**ctx.headers, **self.secret_headers(connection)}
        response = self.http.stream(ctx, method, f"{connection.base_url}{target}", headers, body)
        if self.private_headers:
            response.headers = [(name, value) for name, value in response.headers if name not in self.private_headers]
        return response

    def handle_error_response(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Remove the key from the error, because some upstreams quote it. Never dispatch again."""
        key = (self.connection(ctx.attempt.upstream).api_key or "").encode()
        if key and key in response.content:
            raise UpstreamRefused(response.status, response.headers, response.content.replace(key, b"***"))
        return False


def encode_body(body: dict[str, Any]) -> bytes:
    """Return a request body as JSON. Its ``input`` may be unread (``Provider.accepts_shallow_copy``).

    :raises GatewayError: 400, it cannot be written as JSON.
    """
    try:
        return dumps_body(body)
    except ValueError as error:
        raise GatewayError(400, f"The request cannot be written as JSON: {error}.") from error


def parse_models(content: bytes) -> list[Model]:
    """Parse ``{"data": [{"id": ...}, ...]}``. Entries without an id are dropped.

    :raises GatewayError: 502, the content is no model list.
    """
    try:
        entries = jsontext.loads(content)["data"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise NoModelList("The upstream", 200)
    return [
        Model(entry["id"], _string(entry.get("owned_by")), _unix_time(entry.get("created")))
        for entry in entries
        if isinstance(entry, dict) and _string(entry.get("id"))
    ]


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _unix_time(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0
