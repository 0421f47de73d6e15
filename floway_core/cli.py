"""The command line: ``floway``."""

import functools
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import click
import pluggy

from floway_core import __version__, config, plugins
from floway_core.config import Settings
from floway_core.contexts import Services
from floway_core.conversation import retain
from floway_core.engine import resolve
from floway_core.errors import GatewayError, StartupError
from floway_core.gateway import Gateway, open_services, read_settings
from floway_core.log import configure_logging
from floway_core.store import keys, upstreams


@dataclass
class Session:
    """What the commands of one call share; each part is made when it is first needed."""

    manager: pluggy.PluginManager

    @functools.cached_property
    def settings(self) -> Settings:
        settings = read_settings(self.manager)
        configure_logging(settings.log_level if settings.log_level != "info" else "warning")
        return settings

    @functools.cached_property
    def services(self) -> Services:
        return open_services(self.settings, self.manager)


def services(context: click.Context) -> Services:
    """The services for a command, from its click context. Opens the database, and brings its schema up to date."""
    return context.find_object(Session).services


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="floway")
def cli() -> None:
    """A gateway for the OpenAI Responses API. Settings come from FLOWAY_* variables: see `floway config`."""


def main() -> None:
    """Run the command line with the commands of core and of all plugins."""
    try:
        manager = plugins.build_plugin_manager()
        plugins.add_commands(manager, cli)
        cli.main(obj=Session(manager), prog_name="floway")
    except (StartupError, GatewayError) as error:
        print(f"floway: {error}", file=sys.stderr)
        sys.exit(1)


def _table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [headings, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _date(unix_seconds: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_seconds)) if unix_seconds else "-"


# ----------------------------------------------------------------------------------------------------------- serving
@cli.command()
@click.option("--bind", metavar="HOST:PORT", help="Where to listen (setting FLOWAY_BIND).")
@click.pass_obj
def serve(session: Session, bind: str | None) -> None:
    """Run the gateway."""
    import os

    from floway_core.app import create_app  # only this command needs the web framework
    from floway_core.server import Server, check_bind

    if bind:
        os.environ["FLOWAY_BIND"] = bind  # workers read their settings from the environment, too
    check_bind(session.settings.bind)
    # What keeps a worker from starting is found here, where it can be said in one line.
    gateway: Gateway = create_app(session.settings, session.manager).extensions["floway"]
    click.echo(f"Floway {__version__} listens on {session.settings.bind}", err=True)
    for line in _missing(gateway):
        click.echo(f"  missing: {line}", err=True)
    gateway.services.database.close_all()
    Server(session.settings).run()


def _missing(gateway: Gateway) -> list[str]:
    """What still keeps clients from being served, and what mends it."""
    database, providers, missing = gateway.services.database, gateway.providers, []
    rows = upstreams.all_rows(database)
    for row in rows:
        if row.kind not in providers.by_kind:
            missing.append(f"the plugin of provider {row.kind!r}, which the upstream {row.name!r} needs")
    if not providers.by_kind:
        missing.append("a provider. Install one, for example: pip install floway-<provider>")
    elif not any(row.enabled and row.kind in providers.by_kind for row in rows):
        kinds = ", ".join(f"`floway {kind} --help`" for kind in sorted(providers.by_kind))
        missing.append(f"an upstream. See {kinds}")
    if not any(row.revoked_at is None for row in keys.all_rows(database)):
        missing.append("an API key for the clients. Make one with: floway keys create NAME")
    return missing


@cli.command()
@click.pass_context
def migrate(context: click.Context) -> None:
    """Bring the database schema up to date. Every other command that needs it does so, too."""
    services(context)
    click.echo("The database schema is up to date.")


@cli.command("config")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show_config(session: Session, as_json: bool) -> None:
    """Show every setting with its effective value; secrets are hidden."""
    rows = config.shown(session.settings, plugins.declared_settings(session.manager))
    if as_json:
        click.echo(json.dumps({setting.variable: value for setting, value in rows}, indent=2))
    else:
        click.echo(_table(("SETTING", "VALUE", "MEANING"), [(s.variable, value, s.help) for s, value in rows]))


@cli.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_plugins(session: Session, as_json: bool) -> None:
    """List the installed plugins: their providers, migrations and hooks."""
    owners = plugins.build_providers(session.manager, session.services).owners
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
        click.echo(_table(("NAME", "PACKAGE", "PROVIDERS", "MIGRATIONS", "HOOKS"), cells))


@cli.command("models")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_models(session: Session, as_json: bool) -> None:
    """List the models and the upstreams that serve them, in the order in which those are tried."""
    offer = resolve.offer(Gateway(session.services, plugins.build_providers(session.manager, session.services)))
    served: dict[str, list[str]] = {}
    for candidate in offer.candidates:
        served.setdefault(candidate.model.id, []).append(candidate.upstream.name)
    if as_json:
        click.echo(json.dumps(served, indent=2))
    else:
        click.echo(_table(("MODEL", "UPSTREAMS"), [(model, ", ".join(names)) for model, names in served.items()]))
    for name in offer.failed:
        click.echo(f"The models of {name!r} cannot be had; see: floway upstreams test {name}", err=True)


# -------------------------------------------------------------------------------------------------------------- keys
@cli.group("keys")
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
        cells = [(row.name, row.hint, _date(row.created_at), _date(row.revoked_at)) for row in rows]
        click.echo(_table(("NAME", "KEY", "CREATED", "REVOKED"), cells))


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


# --------------------------------------------------------------------------------------------------------- retention
@cli.group("retention")
def retention_group() -> None:
    """How long conversations are kept (setting FLOWAY_RETENTION_DAYS)."""


@retention_group.command("run")
@click.pass_obj
def run_retention(session: Session) -> None:
    """Delete expired conversations now. A running gateway does so every hour."""
    deleted = retain.sweep(session.services.database, session.settings.retention_days)
    click.echo(f"Deleted {deleted} expired conversations.")


# --------------------------------------------------------------------------------------------------------- upstreams
@cli.group("upstreams")
def upstreams_group() -> None:
    """Configured upstreams. Most providers bring their own commands to add one."""


@upstreams_group.command("add")
@click.argument("kind")
@click.argument("name")
@click.pass_obj
def add_upstream(session: Session, kind: str, name: str) -> None:
    """Add an upstream of a provider that has nothing to set up. Others bring a command: `floway KIND --help`."""
    if kind not in plugins.build_providers(session.manager, session.services).by_kind:
        raise StartupError(f"There is no provider {kind!r}.")
    if kind in cli.commands:
        raise StartupError(f"This provider has a command of its own to add an upstream: floway {kind} --help")
    upstreams.add(session.services.database, kind, name)
    click.echo(f"Added the upstream {name!r}.", err=True)


@upstreams_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_upstreams(context: click.Context, as_json: bool) -> None:
    """List the upstreams in the order in which they are tried."""
    rows = upstreams.all_rows(services(context).database)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        cells = [(row.name, row.kind, "yes" if row.enabled else "no", row.id) for row in rows]
        click.echo(_table(("NAME", "PROVIDER", "ENABLED", "ID"), cells))


@upstreams_group.command("enable")
@click.argument("name")
@click.pass_context
def enable_upstream(context: click.Context, name: str) -> None:
    """Serve from an upstream."""
    upstreams.set_enabled(services(context).database, name, True)


@upstreams_group.command("disable")
@click.argument("name")
@click.pass_context
def disable_upstream(context: click.Context, name: str) -> None:
    """Leave an upstream out, without forgetting it."""
    upstreams.set_enabled(services(context).database, name, False)


@upstreams_group.command("move")
@click.argument("name")
@click.argument("place", type=click.IntRange(1))
@click.pass_context
def move_upstream(context: click.Context, name: str, place: int) -> None:
    """Change the order: PLACE 1 is tried first."""
    upstreams.move(services(context).database, name, place)


@upstreams_group.command("test")
@click.argument("name")
@click.pass_obj
def test_upstream(session: Session, name: str) -> None:
    """Ask an upstream for its models, with the credentials stored for it."""
    row = next((row for row in upstreams.all_rows(session.services.database) if row.name == name), None)
    if row is None:
        raise GatewayError(404, f"There is no upstream named {name!r}.")
    provider = plugins.build_providers(session.manager, session.services).by_kind.get(row.kind)
    if provider is None:
        raise StartupError(f"The provider {row.kind!r} of upstream {name!r} is not installed.")
    found = provider.list_models(row)
    click.echo(f"{name} works and serves {len(found)} models: {', '.join(model.id for model in found)}")


@upstreams_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_upstream(context: click.Context, name: str) -> None:
    """Remove an upstream and the credentials stored for it."""
    upstreams.remove(services(context).database, name)
    click.echo(f"The upstream {name!r} is removed.", err=True)
