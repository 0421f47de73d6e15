"""The hooks of the plugin. Each of them delegates to another module."""

from collections.abc import Iterable
from pathlib import Path

import click

from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider
from floway_core.storage.migrate import MigrationSource
from floway_openai.provider import OpenAIProvider


@hookimpl
def register_migrations() -> MigrationSource:
    sealed = ("openai_connections.api_key", "openai_connections.headers")
    return MigrationSource("openai", Path(__file__).parent / "migrations", sealed)


@hookimpl
def register_providers(services: Services) -> Iterable[Provider]:
    return [OpenAIProvider(services)]


@hookimpl
def register_commands(cli: click.Group) -> None:
    from floway_openai.commands import openai  # imported here, because the server does not need it

    cli.add_command(openai)


@hookimpl
def on_attempt_start(ctx: AttemptContext) -> None:
    assert isinstance(ctx.provider, OpenAIProvider)  # hooks of a provider's plugin see its own upstreams only
    ctx.provider_state = ctx.provider.load_connection(ctx.upstream)


@hookimpl
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    assert isinstance(ctx.attempt.provider, OpenAIProvider)
    ctx.attempt.provider.prepare_request(ctx)
