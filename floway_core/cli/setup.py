"""``floway setup``: make a client use this gateway."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from floway_core.cli.check_client import check_client
from floway_core.cli.client_key import HIDDEN, ClientKey, hide_keys
from floway_core.cli.confirm import confirm
from floway_core.cli.context import Session, find_session
from floway_core.client_setup import KEY_VARIABLE, ClientSetup, SetupTarget, install
from floway_core.client_setup.install import Change
from floway_core.engine import routing
from floway_core.runtime import plugins
from floway_core.settings import Settings, origin_url

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Addresses on which only servers listen, and those at which a client on the same machine reaches them."""


def _read_url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return value and origin_url(value.rstrip("/"), allow_http=True).rstrip("/")
    except ValueError as error:
        raise click.BadParameter(f"{error} is expected.") from None


@click.command("setup")
@click.argument("client", required=False)
@click.option("--key", "key_name", metavar="NAME", help="The API key it uses; a new one if there is none of this name.")
@click.option("--model", help="The model that it uses.  [default: the first of `floway models`]")
@click.option("--url", callback=_read_url, help="The address of the gateway.  [default: from FLOWAY_BIND]")
@click.option("--write", is_flag=True, help="Change its files, instead of printing what they need.")
@click.option("--yes", is_flag=True, help="Do not ask before files are changed.")
@click.option("--check", is_flag=True, help="Send one small request as it would.")
@click.pass_context
def setup_client(context: click.Context, /, client: str | None, key_name: str | None, **options: Any) -> None:
    """Make CLIENT use this gateway. Without CLIENT, list those that can be set up.

    What is printed refers to the environment variable FLOWAY_API_KEY. With --write, the files of the client hold the
    key, if --key names one; a difference is shown first, and the old files are kept. The text of an existing key is
    taken from these files, from the variable, or asked for.
    """
    session = find_session(context)
    setups = plugins.client_setups(session.manager)
    if client is None:
        click.echo(
            "\n".join(f"{name:<12}{setup.title}" for name, setup in setups.items()) or "No plugin sets up a client."
        )
        return
    if client not in setups:
        raise click.UsageError(f"There is no client {client!r}. Clients: {', '.join(setups) or 'none'}.")
    _set_up(session, setups[client], key_name, **options)


def _set_up(
    session: Session,
    setup: ClientSetup,
    key_name: str | None,
    model: str | None,
    url: str | None,
    write: bool,
    yes: bool,
    check: bool,
) -> None:
    target = SetupTarget(url or _default_url(session.settings), model or _default_model(session))
    key = ClientKey(session, key_name, _present_texts(setup, target))
    if write:
        _write(setup, target, key, yes)
    elif not check:
        _print(setup, target, key)
    if check:
        checked = SetupTarget(target.url, target.model, key.text())
        if not check_client(setup, checked, click.echo):
            raise SystemExit(1)


def _default_url(settings: Settings) -> str:
    if settings.bind.startswith("unix:"):
        raise click.UsageError("The gateway listens on a socket file: say its address with --url.")
    host, _, port = settings.bind.rpartition(":")
    return f"http://{WILDCARDS.get(host, host)}:{port}"


def _default_model(session: Session) -> str:
    for candidate in routing.list_offered(session.gateway).candidates:
        return candidate.model.id
    raise click.UsageError("No upstream here serves a model: name one with --model.")


def _present_texts(setup: ClientSetup, target: SetupTarget) -> list[str]:
    return [_read(file.path) or "" for file in setup.files(target, os.environ)]


def _read(path: Path) -> str | None:
    try:
        return install.read(path)
    except ValueError as error:
        raise click.ClickException(f"{path}: {error}.") from None


# ------------------------------------------------------------------------------------------------------------ printing
def _print(setup: ClientSetup, target: SetupTarget, key: ClientKey) -> None:
    """Print what files and environment need; the key is in the environment."""
    for file in setup.files(target, os.environ):
        click.echo(f"# {file.path}\n{file.edit('').rstrip()}\n")
    if key.is_new:
        _print_variables({KEY_VARIABLE: key.create()})
    elif not os.environ.get(KEY_VARIABLE):  # a comment: a shell that evaluates the output must not lose its key
        click.echo(f'# First: export {KEY_VARIABLE}="{HIDDEN}"')
    _print_variables(setup.variables(target))
    if setup.start:
        click.echo(setup.start)


def _print_variables(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        click.echo(f'export {name}="{value}"')


# ------------------------------------------------------------------------------------------------------------- writing
def _write(setup: ClientSetup, target: SetupTarget, key: ClientKey, yes: bool) -> None:
    """Change the files, after the difference was shown and confirmed."""
    shown = SetupTarget(target.url, target.model, key.text_or_placeholder())
    changes = _changes(setup, shown)
    if not changes:
        raise click.UsageError(f"{setup.title} has no files to write: leave out --write.")
    if any(change.is_needed for change in changes):
        for change in changes:
            click.echo(change.diff(hide_keys) or f"{change.path}: only the key changes", nl=False)
        confirm(f"This changes the configuration of {setup.title}.", yes)
        if key.is_new:
            shown = SetupTarget(target.url, target.model, key.create())
            changes = _changes(setup, shown)
        _install(setup, [change for change in changes if change.is_needed], shown)
    else:
        click.echo(f"{setup.title} is set up already.")
    variables = {KEY_VARIABLE: "..."} if shown.key is None else {}
    if variables := {**variables, **setup.variables(shown)}:
        click.echo("It also needs in its environment:")
        _print_variables(variables)
    if setup.start:
        click.echo(f"Start it with: {setup.start}")


def _changes(setup: ClientSetup, target: SetupTarget) -> list[Change]:
    changes = []
    for file in setup.files(target, os.environ):
        try:
            before = _read(file.path)
            changes.append(Change(file.path, before, file.edit(before or "")))
        except ValueError as error:
            raise click.ClickException(f"{file.path} cannot be changed: {error}.") from None
    return changes


def _install(setup: ClientSetup, changes: Sequence[Change], target: SetupTarget) -> None:
    undo = []
    for change in changes:
        try:
            backup = install.write(change, is_secret=target.key is not None and target.key in change.after)
        except OSError as error:
            raise click.ClickException(f"{change.path} cannot be written: {error.strerror}.") from None
        click.echo(f"Written: {change.path}")
        undo.append(f"mv {backup} {change.path}" if backup else f"rm {change.path}")
    click.echo(f"To undo it: {' && '.join(undo)}")
