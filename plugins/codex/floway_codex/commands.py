"""``floway codex ...``"""

import json
import time
from pathlib import Path
from typing import BinaryIO

import click

from floway_codex import accounts, status
from floway_codex.importing import import_account
from floway_core import cli
from floway_core.config import address
from floway_core.protocol import jsontext


@click.group()
def codex() -> None:
    """Codex accounts."""


@codex.command(name="import")
@click.argument("file", type=click.File("rb"))
@click.option("--name", help="Name of the upstream. Default: codex- and the account's email.")
@click.pass_context
def import_(context: click.Context, file: BinaryIO, name: str | None) -> None:
    """Make an upstream of the account in FILE, the CLI's auth.json; - reads standard input.

    An account that is there already gets the new tokens and is active again.
    """
    services = cli.services(context)
    try:
        auth_json = jsontext.loads(file.read())
    except ValueError:  # its message may quote the file, and with it a token
        raise click.ClickException("The file is not JSON.") from None
    try:
        upstream = import_account(services, auth_json, name)
    except ValueError as error:
        raise click.ClickException(f"This is no usable auth.json: {error}.") from None
    account = accounts.find(services, upstream.id)
    click.echo(f"{upstream.name}: {account.email}, plan {account.plan}, account {account.account_id}")


@codex.command(name="status")
@click.option("--json", "as_json", is_flag=True, help="For programs; times are Unix seconds.")
@click.pass_context
def status_(context: click.Context, as_json: bool) -> None:
    """Show accounts, plans, token expiry, health and quota."""
    found = status.read(cli.services(context))
    if as_json:
        click.echo(json.dumps([status.as_json(one) for one in found], indent=2))
    elif not found:
        click.echo("There is no Codex account. `floway codex import FILE` adds one.")
    else:
        click.echo("\n\n".join(status.as_text(one, time.time()) for one in found))


def _bind(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    try:
        host, _, port = address(value).rpartition(":")
        return host.strip("[]"), int(port)
    except ValueError:
        raise click.BadParameter("HOST:PORT is expected") from None


@codex.command()
@click.option("--bind", default="127.0.0.1:8790", show_default=True, callback=_bind, help="HOST:PORT to listen on.")
@click.option("--auth-file", type=click.Path(dir_okay=False, path_type=Path), help="Write an auth.json to import here.")
def simulate(bind: tuple[str, int], auth_file: Path | None) -> None:
    """Run a stand-in of the Codex backend, for trying things out without an account."""
    from floway_codex.simulator.server import serve  # nothing else here needs it

    serve(*bind, auth_file)


@codex.command()
def demo() -> None:
    """Show the main job end to end against the stand-in. Needs no account and leaves nothing behind."""
    from floway_codex.demo import run  # nothing else here needs it

    run()
