"""``floway dashboard``: the passwords of the dashboard."""

import sys

import click

from floway_core.cli import services
from floway_dashboard.access import passwords


@click.group()
def dashboard() -> None:
    """The dashboard, which `floway serve` has under /dashboard."""


@dashboard.command("password")
@click.option("--viewer", is_flag=True, help="The password of viewers, who cannot change anything.")
@click.option("--remove", is_flag=True, help="Remove the password instead of setting it.")
@click.pass_context
def set_password(context: click.Context, viewer: bool, remove: bool) -> None:
    """Set the password of the dashboard. It is prompted for, or read from standard input.

    All sessions that were opened with the old one end. The admin token opens the dashboard as well.
    """
    role, database = passwords.VIEWER if viewer else passwords.OPERATOR, services(context).database
    if remove:
        was_there = passwords.remove(database, role)
        click.echo(f"The {role} password is removed." if was_there else f"There is no {role} password.")
        return
    try:
        passwords.put(database, role, _read_password(role))
    except ValueError as problem:
        raise click.ClickException(str(problem)) from None
    click.echo(f"The {role} password is set.")


def _read_password(role: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"New {role} password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
