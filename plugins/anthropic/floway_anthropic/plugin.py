"""The hooks of the plugin."""

from collections.abc import Iterable

from floway_anthropic.client_setup import ClaudeCodeSetup
from floway_anthropic.dialect import MessagesDialect
from floway_anthropic.provider import AnthropicProvider
from floway_core.client_setup import ClientSetup
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services
from floway_core.dialect import Dialect
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider


@hookimpl
def register_dialects() -> list[Dialect]:
    return [MessagesDialect()]


@hookimpl
def register_providers(services: Services) -> list[Provider]:
    return [AnthropicProvider(services)]


@hookimpl
def register_client_setups() -> Iterable[ClientSetup]:
    return [ClaudeCodeSetup()]


@hookimpl
def on_attempt_start(ctx: AttemptContext) -> None:
    assert isinstance(ctx.provider, AnthropicProvider)  # hooks of a provider's plugin see its own upstreams only
    ctx.provider_state = ctx.provider.start_attempt(ctx)


@hookimpl
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    assert isinstance(ctx.attempt.provider, AnthropicProvider)
    ctx.attempt.provider.prepare_request(ctx)
