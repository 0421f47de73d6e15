"""The provider ``chat``: upstreams that speak Chat Completions."""

from dataclasses import dataclass, field

from floway_chat import NAME, __version__, pass_through
from floway_chat.events.pass_through import UsageHider
from floway_chat.events.to_responses import ResponsesTranslator
from floway_chat.quirks import Quirks, find_quirks, load_quirks
from floway_chat.requests.to_chat import write_request
from floway_chat.requests.tools import ToolTable, read_tools
from floway_core.contexts import AttemptContext, ForwardContext, ResponsesRequestContext, Upstream
from floway_core.errors import GatewayError
from floway_core.protocol.response_writer import ResponseEventWriter
from floway_core.provider import ConnectionOptions, UpstreamOption, UpstreamResponse
from floway_core.storage.connections import Connection
from floway_core.upstream.keyed import OPENAI_PATHS, KeyedProvider, encode_body
from floway_core.upstream.translated import TranslatedBody


@dataclass
class ChatAttempt:
    """The state of an attempt. It is the same for all its dispatches."""

    connection: Connection
    quirks: Quirks
    tools: ToolTable = field(default_factory=ToolTable)
    """The tools of the request, to convert the calls of them back."""
    passes_through: bool = False
    """Whether the client speaks Chat Completions too, so that nothing is translated."""


AUTO = "auto"


class ChatProvider(KeyedProvider):
    """Sends requests to servers with Chat Completions: unchanged if the client speaks it, else translated."""

    kind = NAME
    forwarded_paths = OPENAI_PATHS
    dialect = NAME
    accepts_shallow_copy = True
    private_headers = frozenset({"openai-organization", "openai-project"})
    connection_options = ConnectionOptions(
        example_base_url="http://127.0.0.1:8000/v1",
        key_is_optional=True,
        options=(
            UpstreamOption(
                "server",
                "The kind of server, because servers differ. Default: recognised by its URL and models.",
                (AUTO, *load_quirks()),
            ),
        ),
    )

    def start_attempt(self, ctx: AttemptContext) -> None:
        """Load the connection, and find the quirks of the server.

        :raises GatewayError: 503, the connection is missing or cannot be decrypted.
        """
        connection = self.connection(ctx.upstream)
        ctx.provider_state = ChatAttempt(connection, self._quirks(ctx.upstream, connection))

    def _quirks(self, upstream: Upstream, connection: Connection) -> Quirks:
        server = connection.options.get("server", AUTO)
        if server != AUTO:
            return load_quirks()[str(server)]
        try:
            models = self.cached_models(upstream) or ()
        except GatewayError:
            models = ()
        return find_quirks(connection.base_url, (model.owned_by for model in models))

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Write the request for the server: the client's own if it speaks Chat Completions, else a translation.

        :raises GatewayError: 400, something in the request has no counterpart.
        """
        state: ChatAttempt = ctx.attempt.provider_state
        state.passes_through = pass_through.is_possible(ctx)
        streams = ctx.attempt.request.stream
        if state.passes_through:
            ctx.body = pass_through.write_body(ctx, state.quirks)
        else:
            translation = write_request({**ctx.body, "stream": streams}, state.quirks)
            ctx.body, state.tools = translation.body, translation.tools
            ctx.ignore(*translation.ignored)
        ctx.headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if streams else "application/json",
            "user-agent": f"floway-chat/{__version__}",
        }

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        state: ChatAttempt = ctx.attempt.provider_state
        content = pass_through.encode_original(ctx) if state.passes_through else encode_body(ctx.body)
        response = self.post(ctx, "/chat/completions", content, state.connection)
        if 200 <= response.status < 300:
            self._translate(ctx, response)
        return response

    def forward(self, ctx: ForwardContext) -> UpstreamResponse:
        ctx.headers["user-agent"] = f"floway-chat/{__version__}"
        return super().forward(ctx)

    def _translate(self, ctx: ResponsesRequestContext, response: UpstreamResponse) -> None:
        """Translate the body of an answer, unless it is passed through."""
        state: ChatAttempt = ctx.attempt.provider_state
        if state.passes_through and pass_through.is_misformatted(ctx, response):
            state.tools = read_tools(ctx.attempt.request.body, custom_tools=True)
        elif state.passes_through:
            response.dialect = NAME
            if pass_through.hides_usage(ctx):
                response.body = TranslatedBody(response.body, UsageHider(), lambda content: content)
            return
        identity = ctx.attempt.request.id.replace("-", "")
        writer = ResponseEventWriter(ctx.attempt.model, id=f"resp_{identity}")
        translator = ResponsesTranslator(writer, state.tools, identity)
        response.body = TranslatedBody(response.body, translator, translator.convert_document)
