"""``floway keys``: API keys of clients."""

import json
from dataclasses import asdict

import click

from floway_core.cli.session import services
from floway_core.cli.table import date, table
from floway_core.store import keys


@click.group("keys")
def keys_group() -> None:
    """API keys of clients."""


@keys_group.command("create")
@click.argument("name")
@click.pass_context
def create_key(context: click.Context, name: str) -> None:
    """Make a key and print it. It is shown this once: only its hash is kept."""
    click.echo(keys.create(services(context).database, name))


@keys_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_keys(context: click.Context, as_json: bool) -> None:
    """List the keys, revoked ones too."""
    rows = keys.all_rows(services(context).database)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        cells = [(row.name, row.hint, date(row.created_at), date(row.revoked_at)) for row in rows]
        click.echo(table(("NAME", "KEY", "CREATED", "REVOKED"), cells))


@keys_group.command("revoke")
@click.argument("name")
@click.pass_context
def revoke_key(context: click.Context, name: str) -> None:
    """Refuse a key from now on."""
    keys.revoke(services(context).database, name)
    click.echo(f"The key {name!r} is revoked.", err=True)


@keys_group.command("delete")
@click.argument("name")
@click.pass_context
def delete_key(context: click.Context, name: str) -> None:
    """Remove a key and all conversations it has stored."""
    keys.delete(services(context).database, name)
    click.echo(f"The key {name!r} and its conversations are deleted.", err=True)
