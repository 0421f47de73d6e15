"""The provider ``chat``: upstreams that speak Chat Completions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from floway_chat import __version__, connections, passing
from floway_chat.connections import Connection
from floway_chat.dialect import NAME
from floway_chat.events.passed_through import UsageHider
from floway_chat.events.to_responses import ResponsesTranslator
from floway_chat.quirks import Quirks
from floway_chat.requests.to_chat import write_request
from floway_chat.requests.tools import ToolTable
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, Upstream
from floway_core.errors import GatewayError, UpstreamRefused
from floway_core.protocol import jsontext
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_core.provider import ErrorResponse, Model, Provider, UpstreamResponse
from floway_core.upstream import HttpClient
from floway_core.upstream.translated import TranslatedBody

PRIVATE_HEADERS = frozenset({"openai-organization", "openai-project"})
"""Headers of a response that identify the operator's account."""


@dataclass
class ChatAttempt:
    """What stays the same over all dispatches of an attempt."""

    connection: Connection
    quirks: Quirks
    tools: ToolTable = field(default_factory=ToolTable)
    """The tools of the request, for the way back of the calls."""
    is_passed_through: bool = False
    """Whether the client speaks Chat Completions too, so that nothing is translated."""


class ChatProvider(Provider):
    """Sends requests to servers of Chat Completions, translated unless the client speaks it too."""

    kind = connections.KIND
    dialect = NAME

    def __init__(self, services: Services) -> None:
        self._services = services
        self._http = HttpClient(services.settings)

    # ------------------------------------------------------------------------------------------------------ sending
    def start_attempt(self, ctx: AttemptContext) -> None:
        """Load the connection, and find out how the server differs.

        :raises GatewayError: 503, the connection is missing or cannot be decrypted.
        """
        connection = connections.read(self._services, ctx.upstream)
        ctx.provider_state = ChatAttempt(connection, self._quirks(ctx.upstream, connection))

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Write the request for the server: the client's own one if it speaks Chat Completions, else a translation.

        :raises GatewayError: 400, something in the request has no counterpart.
        """
        state: ChatAttempt = ctx.attempt.provider_state
        state.is_passed_through = passing.is_possible(ctx)
        streams = ctx.attempt.request.stream
        if state.is_passed_through:
            ctx.body = passing.write_body(ctx)
        else:
            written = write_request({**ctx.body, "stream": streams}, state.quirks)
            ctx.body, state.tools = written.body, written.tools
            ctx.ignore(*written.left_out)
        ctx.headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if streams else "application/json",
            "user-agent": f"floway-chat/{__version__}",
        }

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        state: ChatAttempt = ctx.attempt.provider_state
        content = passing.encode_body(ctx) if state.is_passed_through else jsontext.dumps(ctx.body)
        # Secrets are added here and not to ctx.headers, because observers see those.
        headers = {**ctx.headers, **state.connection.secret_headers()}
        url = f"{state.connection.base_url}/chat/completions"
        response = self._http.stream(ctx, "POST", url, headers, content)
        response.headers = [(name, value) for name, value in response.headers if name not in PRIVATE_HEADERS]
        if 200 <= response.status < 300:
            self._translate(ctx, response)
        return response

    def _translate(self, ctx: ResponsesRequestContext, response: UpstreamResponse) -> None:
        """Make the body of an answer what the gateway expects: events of the Responses API, or the client's own."""
        state: ChatAttempt = ctx.attempt.provider_state
        if state.is_passed_through:
            response.dialect = NAME
            if passing.hides_usage(ctx):
                response.body = TranslatedBody(response.body, UsageHider(), lambda content: content)
            return
        identity = ctx.attempt.request.id.replace("-", "")
        writer = ResponseEventWriter(ctx.attempt.model, id=f"resp_{identity}")
        translator = ResponsesTranslator(writer, state.tools, identity)
        response.body = TranslatedBody(response.body, translator, translator.convert_document)

    def handle_error_response(self, ctx: ResponsesRequestContext, response: ErrorResponse) -> bool:
        """Remove the key from the error, because some servers quote it. Never dispatch again."""
        state: ChatAttempt = ctx.attempt.provider_state
        key = (state.connection.api_key or "").encode()
        if key and key in response.content:
            content = response.content.replace(key, b"***")
            raise UpstreamRefused(response.status, response.headers, content, self.dialect)
        return False
