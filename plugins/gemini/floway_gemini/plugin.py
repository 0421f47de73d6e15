"""The hooks of the plugin."""

from collections.abc import Iterable

import click

from floway_core.client_setup import ClientSetup
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services
from floway_core.dialect import Dialect
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider
from floway_gemini.aliases import group
from floway_gemini.client_setup import GeminiCliSetup
from floway_gemini.dialect import GenerateContentDialect
from floway_gemini.provider import GeminiProvider


@hookimpl
def register_dialects() -> list[Dialect]:
    return [GenerateContentDialect()]


@hookimpl
def register_providers(services: Services) -> list[Provider]:
    return [GeminiProvider(services)]


@hookimpl
def register_commands(cli: click.Group) -> None:
    cli.add_command(group)


@hookimpl
def register_client_setups() -> Iterable[ClientSetup]:
    return [GeminiCliSetup()]


@hookimpl
def on_attempt_start(ctx: AttemptContext) -> None:
    assert isinstance(ctx.provider, GeminiProvider)  # hooks of a provider's plugin see its own upstreams only
    ctx.provider_state = ctx.provider.start_attempt(ctx)


@hookimpl
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    assert isinstance(ctx.attempt.provider, GeminiProvider)
    ctx.attempt.provider.prepare_request(ctx)
