"""The hooks of the plugin. Each of them delegates to another module."""

from collections.abc import Iterable

from floway_chat.dialect import ChatDialect
from floway_chat.provider import ChatProvider
from floway_chat.settings import RESTORE_REASONING, SETTINGS
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services
from floway_core.dialect import Dialect
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider
from floway_core.settings import Setting


@hookimpl
def register_settings() -> Iterable[Setting]:
    return SETTINGS


@hookimpl
def register_providers(services: Services) -> Iterable[Provider]:
    return [ChatProvider(services)]


@hookimpl
def register_dialects(services: Services) -> Iterable[Dialect]:
    return [ChatDialect(services.settings.plugin[RESTORE_REASONING])]


@hookimpl
def on_attempt_start(ctx: AttemptContext) -> None:
    assert isinstance(ctx.provider, ChatProvider)  # hooks of a provider's plugin see its own upstreams only
    ctx.provider.start_attempt(ctx)


@hookimpl
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    assert isinstance(ctx.attempt.provider, ChatProvider)
    ctx.attempt.provider.prepare_request(ctx)
