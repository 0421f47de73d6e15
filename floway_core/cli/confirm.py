"""Ask the operator before data is deleted."""

import sys

import click

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(loss: str, yes: bool) -> None:
    """Ask the operator to confirm a loss.

    :param loss: a sentence that states what is lost.
    :param yes: whether the operator has confirmed it with an option.
    :raises click.ClickException: there is no terminal to ask on.
    :raises click.Abort: the operator does not confirm.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException(f"{loss} There is no terminal to confirm it: use --yes.")
    click.confirm(f"{loss} Continue?", abort=True, err=True)
