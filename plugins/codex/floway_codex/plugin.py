"""The hook implementations of the plugin. Each of them only delegates."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import click
from prometheus_client import CollectorRegistry

from floway_codex.client_setup import CodexSetup
from floway_codex.dialect import CodexDialect
from floway_codex.provider import CodexProvider
from floway_codex.settings import SETTINGS
from floway_core.client_setup import ClientSetup
from floway_core.contexts import AttemptContext, ResponsesRequestContext, Services, SnapshotCommitContext
from floway_core.dialect import Dialect
from floway_core.hookspecs import hookimpl
from floway_core.provider import Provider
from floway_core.settings import Setting
from floway_core.storage.migrate import MigrationSource


@hookimpl
def register_settings() -> Iterable[Setting]:
    return SETTINGS


@hookimpl
def register_migrations() -> MigrationSource:
    encrypted_columns = ("codex_credentials.refresh_token", "codex_credentials.id_token", "codex_tokens.access_token")
    return MigrationSource("codex", Path(__file__).parent / "migrations", encrypted_columns)


@hookimpl
def register_providers(services: Services) -> Iterable[Provider]:
    return [CodexProvider(services)]


@hookimpl
def register_commands(cli: click.Group) -> None:
    # only the command line needs them
    from floway_codex.commands import accounts, differences, explain, profile, simulation, warmth

    for command in (
        explain.explain,
        differences.differences,
        profile.profile,
        simulation.simulate,
        simulation.demo,
        warmth.warmth,
    ):
        accounts.codex.add_command(command)
    cli.add_command(accounts.codex)


@hookimpl
def register_dialects() -> Iterable[Dialect]:
    return [CodexDialect()]


@hookimpl
def register_metrics(registry: CollectorRegistry, providers: Mapping[str, Provider]) -> None:
    provider = providers[CodexProvider.kind]
    assert isinstance(provider, CodexProvider)  # two plugins cannot claim one kind
    provider.register_metrics(registry)


@hookimpl
def register_client_setups() -> Iterable[ClientSetup]:
    return [CodexSetup()]


@hookimpl
def on_attempt_start(ctx: AttemptContext) -> None:
    ctx.provider_state = _provider(ctx).start_attempt(ctx)


@hookimpl
def prepare_responses_request(ctx: ResponsesRequestContext) -> None:
    _provider(ctx.attempt).prepare_request(ctx)


@hookimpl
def on_snapshot_commit(ctx: SnapshotCommitContext) -> None:
    _provider(ctx.attempt).store_identity(ctx)


def _provider(ctx: AttemptContext) -> CodexProvider:
    assert isinstance(ctx.provider, CodexProvider)  # the hooks are called for attempts on this plugin's upstreams only
    return ctx.provider
