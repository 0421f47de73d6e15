"""The command line: ``floway``."""

import sys

import click

from floway_core import __version__
from floway_core.cli import aliases, config_commands, doctor, groups, keys, secrets, serve, setup, upstreams, usage
from floway_core.cli.add_upstream import try_upstream
from floway_core.cli.context import ReadOnlyCommand, Session, services
from floway_core.errors import GatewayError, StartupError
from floway_core.runtime import plugins

__all__ = ["ReadOnlyCommand", "cli", "main", "services", "try_upstream"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="floway")
def cli() -> None:
    """A gateway for large language models. Settings come from FLOWAY_* variables: see `floway config`."""


for command in (
    serve.serve,
    doctor.doctor,
    secrets.secrets_group,
    config_commands.migrate,
    config_commands.show_config,
    config_commands.list_plugins,
    config_commands.retention_group,
    keys.keys_group,
    groups.groups_group,
    setup.setup_client,
    upstreams.upstreams_group,
    upstreams.list_models,
    usage.show_usage,
    aliases.aliases_group,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line with the commands of core and of all plugins."""
    try:
        if sys.argv[1:2] == ["doctor"]:  # must work with broken plugins, and loads them itself
            cli.main(prog_name="floway")
        manager = plugins.build_plugin_manager()
        plugins.add_commands(manager, cli)
        cli.main(obj=Session(manager), prog_name="floway")
    except (StartupError, GatewayError) as error:
        click.echo(f"Error: {error}", err=True)  # as click writes its own
        sys.exit(1)
