"""The provider ``openai``: it sends the client's requests to the upstream unchanged."""

from floway_core.contexts import ForwardContext, ResponsesRequestContext, Upstream
from floway_core.provider import ConnectionOptions, ForwardedPath, UpstreamOption, UpstreamResponse
from floway_core.upstream.keyed import OPENAI_PATHS, KeyedProvider, encode_body
from floway_openai import headers


class OpenAIProvider(KeyedProvider):
    """Sends requests to upstreams with the Responses API and an API key."""

    kind = "openai"
    connection_options = ConnectionOptions(
        example_base_url="https://api.openai.com/v1",
        key_is_optional=True,
        options=(UpstreamOption("compacts", "The upstream accepts compaction_trigger items, as another Floway does."),),
    )
    accepts_shallow_copy = True
    private_headers = headers.PRIVATE
    forwarded_paths = (*OPENAI_PATHS, ForwardedPath("/alpha/search"))

    def supports_compaction(self, upstream: Upstream) -> bool:
        return bool(self.connection(upstream).options.get("compacts"))

    def prepare_request(self, ctx: ResponsesRequestContext) -> None:
        """Set the headers of a dispatch. The body stays unchanged."""
        ctx.headers = headers.for_upstream(ctx.attempt.request, stream=ctx.body.get("stream") is True)
        if ctx.body.get("prompt") and not ctx.body["input"]:
            del ctx.body["input"]  # a stored prompt needs no input

    def send(self, ctx: ResponsesRequestContext) -> UpstreamResponse:
        return self.post(ctx, "/responses", encode_body(ctx.body))

    def forward(self, ctx: ForwardContext) -> UpstreamResponse:
        ctx.headers = {**headers.for_upstream(ctx.attempt.request, stream=False), **ctx.headers}
        return super().forward(ctx)
