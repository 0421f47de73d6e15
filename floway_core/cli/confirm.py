"""Asking before something is lost."""

import sys
from collections.abc import Callable

import click

yes_option: Callable = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(loss: str, yes: bool) -> None:
    """Have the operator agree to a loss.

    :param loss: the sentence that says what is lost.
    :param yes: they have agreed already.
    :raises click.ClickException: there is no terminal to ask on.
    :raises click.Abort: they do not agree.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException(f"{loss} There is no terminal to ask on: say --yes to do it.")
    click.confirm(f"{loss} Go on?", abort=True, err=True)
