"""What is set up: settings, plugins, the database schema, conversations that expire."""

import json
from dataclasses import asdict

import click

from floway_core import config, plugins
from floway_core.cli.session import Session, services
from floway_core.cli.table import table
from floway_core.conversation import retain


@click.command()
@click.pass_context
def migrate(context: click.Context) -> None:
    """Bring the database schema up to date. Every other command that needs it does so, too."""
    services(context)
    click.echo("The database schema is up to date.")


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show_config(session: Session, as_json: bool) -> None:
    """Show every setting with its effective value; secrets are hidden."""
    rows = config.shown(session.settings, plugins.declared_settings(session.manager))
    if as_json:
        click.echo(json.dumps({setting.variable: value for setting, value in rows}, indent=2))
    else:
        click.echo(table(("SETTING", "VALUE", "MEANING"), [(s.variable, value, s.help) for s, value in rows]))


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_plugins(session: Session, as_json: bool) -> None:
    """List the installed plugins: their providers, migrations and hooks."""
    owners = session.gateway.providers.owners
    sources = dict(plugins.named_migration_sources(session.manager))
    rows = []
    for plugin in plugins.installed(session.manager):
        kinds = [kind for kind, owner in owners.items() if owner == plugin.name]
        source = sources.get(plugin.name)
        rows.append({**asdict(plugin), "providers": kinds, "migrations": source.name if source else None})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        cells = [
            (row["name"], row["distribution"], " ".join(row["providers"]) or "-", row["migrations"] or "-", hooks)
            for row in rows
            for hooks in [" ".join(row["hooks"])]
        ]
        click.echo(table(("NAME", "PACKAGE", "PROVIDERS", "MIGRATIONS", "HOOKS"), cells))


@click.group("retention")
def retention_group() -> None:
    """How long conversations are kept (setting FLOWAY_RETENTION_DAYS)."""


@retention_group.command("run")
@click.pass_obj
def run_retention(session: Session) -> None:
    """Delete expired conversations now. A running gateway does so every hour."""
    deleted = retain.sweep(session.services.database, session.settings.retention_days)
    click.echo(f"Deleted {deleted} expired conversations.")
