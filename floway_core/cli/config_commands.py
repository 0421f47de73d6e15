"""``floway migrate``, ``config``, ``plugins`` and ``retention``: the state of an installation."""

import json
import os
from dataclasses import asdict
from typing import Any

import click
import peewee

from floway_core.administration.settings import list_settings
from floway_core.cli.context import ReadOnlyCommand, Session
from floway_core.cli.table import table
from floway_core.contexts import Services
from floway_core.conversation import retention
from floway_core.runtime import plugins
from floway_core.runtime.dialects import build_dialects
from floway_core.runtime.gateway import database_errors, database_in_use, existing_database
from floway_core.runtime.lifecycle import build_providers
from floway_core.secrets import SecretBox, generate_key
from floway_core.storage import keys
from floway_core.storage import migrate as schema
from floway_core.storage.db import in_memory


@click.group(invoke_without_command=True)
@click.option("--to", "target", metavar="SOURCE/NAME", help="Go back to this migration; SOURCE/0 undoes them all.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def migrate(context: click.Context, target: str | None, yes: bool) -> None:
    """Update the database schema. All commands that use the database do so, too."""
    session: Session = context.obj
    if context.invoked_subcommand:
        return
    if target:
        _undo(session, target, yes)
        return
    session.services  # noqa: B018 - brings it up to date
    click.echo("The database schema is up to date.")


def _undo(session: Session, target: str, yes: bool) -> None:
    database, sources = existing_database(session.settings), plugins.migration_sources(session.manager)
    with database_errors(session.settings):
        names = schema.plan_undo(database, sources, target)
        if names and not yes:
            click.confirm(
                f"This undoes {', '.join(names)}, and deletes all data that needs them. Continue?", abort=True
            )
        for name in schema.undo(database, sources, target):
            click.echo(f"undone: {name}")
    click.echo(f"The database schema is that of {target}. Any command of this version would update it again.")


@migrate.command("list", cls=ReadOnlyCommand)
@click.pass_obj
def list_migrations(session: Session) -> None:
    """List the migrations, and when they were applied.

    Those of core come first, then those of each plugin. Changes nothing.
    """
    database = existing_database(session.settings)
    with database_errors(session.settings), database.connection_context():
        rows = schema.history(database, plugins.migration_sources(session.manager))
    click.echo(table(("MIGRATION", "APPLIED"), [(name, f"{at:%Y-%m-%d %H:%M}" if at else "-") for name, at in rows]))


@click.command("config", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show_config(session: Session, as_json: bool) -> None:
    """Show all settings with their values. Secrets are hidden."""
    rows = list_settings(session.settings, session.manager, os.environ)
    if as_json:
        click.echo(json.dumps({row.variable: row.value for row in rows}, indent=2))
    else:
        click.echo(table(("SETTING", "VALUE", "MEANING"), [(row.variable, row.value, row.help) for row in rows]))


@click.command("plugins", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_plugins(session: Session, as_json: bool) -> None:
    """List the plugins, and what each of them adds."""
    rows = _describe_plugins(session)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("There is no plugin. Floway needs one with a provider: pip install floway-PROVIDER")
        return
    for row in rows:
        click.echo(f"{row['name']} ({row['distribution']})")
        for name in ("providers", "dialects", "routes", "forwards", "commands", "settings", "migrations", "hooks"):
            if value := row[name]:
                text = ", ".join(value) if isinstance(value, list | tuple) else value
                click.echo(f"  {name + ':':<12}{text}")


def _describe_plugins(session: Session) -> list[dict[str, Any]]:
    """Return what each installed plugin adds, as JSON."""
    from floway_core.web.routing import routes_of_plugins  # the web framework, which other commands do not need

    database = database_in_use(session.settings)
    # The kinds of providers do not depend on stored data, so an empty database is sufficient.
    empty = Services(session.settings, in_memory(), SecretBox(generate_key()))
    providers = build_providers(session.manager, empty)
    owners = providers.owners
    dialects = build_dialects(session.manager, empty)
    routes = routes_of_plugins(session.manager, empty, dialects)
    sources = dict(plugins.named_migration_sources(session.manager))
    commands = plugins.list_commands(session.manager)
    settings_of = dict(plugins.named_settings(session.manager))
    return [
        {
            **asdict(plugin),
            "providers": [kind for kind, owner in owners.items() if owner == plugin.name],
            "dialects": [name for name, owner in dialects.owners.items() if owner == plugin.name],
            "routes": routes.get(plugin.name, []),
            "forwards": sorted(
                {
                    f"{path.method} {path.prefixes[0]}{path.path}"
                    for kind, provider in providers.by_kind.items()
                    for path in (provider.forwarded_paths if owners[kind] == plugin.name else ())
                }
            ),
            "settings": [setting.name for setting in settings_of.get(plugin.name, [])],
            "commands": commands.get(plugin.name, []),
            "migrations": _format_migrations(database, sources.get(plugin.name)),
        }
        for plugin in plugins.list_installed(session.manager)
    ]


def _format_migrations(database: peewee.Database | None, source: schema.MigrationSource | None) -> str | None:
    """Format how many migrations of a plugin are applied; None if it has none."""
    if source is None:
        return None
    database = database or in_memory()
    with database.connection_context():
        applied = [when is not None for _, when in schema.history(database, [source])]
    return f"{applied.count(True)} applied" + (f", {applied.count(False)} pending" if False in applied else "")


@click.group("retention")
def retention_group() -> None:
    """Expired conversations.

    FLOWAY_RETENTION_DAYS sets for how long conversations are stored.
    """


@retention_group.command("run")
@click.pass_obj
def run_retention(session: Session) -> None:
    """Delete expired conversations now. A running gateway does so every hour."""
    keys.finish_deletions(session.services.database)
    deleted = retention.sweep(session.services.database, session.settings.retention_days)
    click.echo(f"Deleted {deleted} expired conversations.")
