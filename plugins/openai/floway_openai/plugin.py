"""The hooks of the plugin."""

from collections.abc import Iterable
from pathlib import Path

from floway_core.client_setup import ClientSetup
from floway_core.contexts import ResponsesRequestContext, Services
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider
from floway_core.storage.migrate import MigrationSource
from floway_openai.client_setups import OpenAISetup, OpencodeSetup
from floway_openai.provider import OpenAIProvider


@hookimpl
def register_migrations() -> MigrationSource:
    return MigrationSource("openai", Path(__file__).parent / "migrations")


@hookimpl
def register_providers(services: Services) -> Iterable[Provider]:
    return [OpenAIProvider(services)]


@hookimpl
def register_client_setups() -> Iterable[ClientSetup]:
    return [OpenAISetup(), OpencodeSetup()]


@hookimpl
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    assert isinstance(ctx.attempt.provider, OpenAIProvider)
    ctx.attempt.provider.prepare_request(ctx)
