"""``floway upstreams`` and ``floway models``: the configured upstreams and their models."""

import json
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import click

from floway_core.administration import models
from floway_core.administration import upstreams as administration
from floway_core.cli.add_upstream import AddGroup, set_upstream
from floway_core.cli.confirm import confirm, yes_option
from floway_core.cli.context import ReadOnlyCommand, Session, services
from floway_core.cli.table import date, table
from floway_core.storage import upstreams


@click.command("models", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_models(session: Session, as_json: bool) -> None:
    """List the models and their upstreams.

    Upstreams are listed in the order in which they are tried.
    """
    offer = models.list_models(session.gateway, wait_for_all=True)
    if as_json:
        names = {model.id: [server.upstream for server in model.served_by] for model in offer.models}
        click.echo(json.dumps(names, indent=2))
    elif not offer.models:
        click.echo(_no_models(session))
    else:
        cells = [
            (model.id, ", ".join(_format_server(model.id, server) for server in model.served_by))
            for model in offer.models
        ]
        click.echo(table(("MODEL", "UPSTREAMS"), cells))
    for name in offer.failed:
        click.echo(f"The models of {name!r} are not available; see: floway upstreams test {name}", err=True)


def _no_models(session: Session) -> str:
    rows = upstreams.all_rows(session.services.database)
    if not rows:
        return _no_upstream(session)
    if not any(row.enabled for row in rows):
        return "No upstream is enabled. `floway upstreams enable NAME` enables one."
    return "No upstream lists a model. See: floway upstreams list"


def _no_upstream(session: Session) -> str:
    """Return the next step if there is no upstream."""
    providers, commands = session.gateway.providers.by_kind, _root_commands(click.get_current_context())
    if not providers:
        return "There is no upstream, and no plugin with a provider: pip install floway-PROVIDER"
    hints = [
        f"`floway upstreams add {kind} --help`"
        if provider.connection_options or kind not in commands
        else f"`floway {kind} --help`"
        for kind, provider in sorted(providers.items())
    ]
    return f"There is no upstream. How to add one: {', '.join(hints)}"


def _format_server(model: str, server: models.Server) -> str:
    """Format an upstream, with its own name of the model if that differs from the clients'."""
    return server.upstream if server.model == model else f"{server.upstream} ({server.model})"


def _root_commands(context: click.Context) -> Collection[str]:
    """Return the names of all commands of ``floway``."""
    root = context.find_root().command
    return root.list_commands(context) if isinstance(root, click.Group) else []


@click.group("upstreams")
def upstreams_group() -> None:
    """The configured upstreams."""


@upstreams_group.command("add", cls=AddGroup)
def add_upstream() -> None:
    """Add an upstream: `floway upstreams add PROVIDER NAME`.

    `floway upstreams add PROVIDER --help` lists the options. Some providers have their own command to add upstreams:
    see `floway PROVIDER --help`.
    """


upstreams_group.add_command(set_upstream)


@upstreams_group.command("show", cls=ReadOnlyCommand)
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show_upstream(session: Session, name: str, as_json: bool) -> None:
    """Show the connection of an upstream.

    Its key and the values of its headers are not shown.
    """
    description = _describe(administration.find_state(session.gateway, name))
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    for label, value in description.items():
        if value is not None:
            click.echo(f"{label.replace('_', ' ')}: {_format_value(value)}")


def _describe(state: administration.UpstreamState) -> dict[str, Any]:
    """Return what is shown of an upstream, for JSON: all but the last request to it."""
    upstream, details = state.upstream, state.details
    for name in asdict(state.last_try):
        del details[name]
    named = {"name": upstream.name, "kind": upstream.kind, "enabled": upstream.enabled, "prefix": upstream.prefix}
    return {**named, **details}


def _format_value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(value) or "none"
        case dict():
            return ", ".join(f"{name} {_format_value(inner)}" for name, inner in value.items()) or "none"
    return str(value) or "none"


@upstreams_group.command("list", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_upstreams(session: Session, as_json: bool) -> None:
    """List the upstreams and their states.

    They are listed in the order in which they are tried. The state is the reason why an upstream cannot serve, or else
    the result of the last request to it. This command sends no request; `floway upstreams test NAME` does.
    """
    states = administration.list_states(session.gateway)
    if as_json:
        click.echo(json.dumps([{**asdict(state.upstream), **state.details} for state in states], indent=2))
    elif not states:
        click.echo(_no_upstream(session))
    else:
        rows = [(state.upstream, state.problem or _format_try(state.last_try)) for state in states]
        cells = [
            (row.name, row.kind, "yes" if row.enabled else "no", row.prefix or "-", row.id, shown)
            for row, shown in rows
        ]
        click.echo(table(("NAME", "PROVIDER", "ENABLED", "PREFIX", "ID", "STATE"), cells))


def _format_try(last: administration.Try) -> str:
    """Format the result of the last request, with its time."""
    if last.tried_at is None:
        return "unknown until a request or a test"
    return f"failed {date(last.tried_at)}: {last.failure}" if last.failure else f"answered {date(last.tried_at)}"


@upstreams_group.command("enable")
@click.argument("name")
@click.pass_context
def enable_upstream(context: click.Context, name: str) -> None:
    """Enable an upstream: send requests to it again."""
    upstreams.change(services(context).database, name, enabled=True)
    click.echo(f"The upstream {name!r} is enabled.", err=True)


@upstreams_group.command("disable")
@click.argument("name")
@click.pass_context
def disable_upstream(context: click.Context, name: str) -> None:
    """Disable an upstream: send no requests to it. Its settings and credentials are kept."""
    upstreams.change(services(context).database, name, enabled=False)
    click.echo(f"The upstream {name!r} is disabled.", err=True)


@upstreams_group.command("move")
@click.argument("name")
@click.argument("position", type=click.IntRange(1))
@click.pass_context
def move_upstream(context: click.Context, name: str, position: int) -> None:
    """Change the order: POSITION 1 is tried first."""
    database = services(context).database
    upstreams.change(database, name, place=position)
    names = [row.name for row in upstreams.all_rows(database)]
    click.echo(f"The upstream {name!r} is at position {names.index(name) + 1} of {len(names)}.", err=True)


@upstreams_group.command("prefix")
@click.argument("name")
@click.argument("prefix", default="")
@click.pass_context
def set_prefix(context: click.Context, name: str, prefix: str) -> None:
    """Set the prefix of an upstream's models.

    Clients request PREFIX/model. Without PREFIX, clients request the model by its own name.
    """
    upstreams.change(services(context).database, name, prefix=prefix)
    pattern = f"{prefix}/MODEL" if prefix else "MODEL without a prefix"
    click.echo(f"Clients request {pattern} to use the upstream {name!r}.", err=True)


@upstreams_group.command("rename")
@click.argument("old")
@click.argument("new")
@click.pass_context
def rename_upstream(context: click.Context, old: str, new: str) -> None:
    """Rename an upstream.

    API keys and aliases that name it are updated. Its usage so far keeps the old name.
    """
    upstreams.change(services(context).database, old, new_name=new)
    click.echo(f"The upstream {old!r} is renamed to {new!r}.", err=True)


@upstreams_group.command("test", cls=ReadOnlyCommand)
@click.argument("name")
@click.pass_obj
def test_upstream(session: Session, name: str) -> None:
    """Test an upstream: request its models.

    The request is sent with the stored credentials, whether the upstream is enabled or not.
    """
    served = administration.test(session.gateway, name)
    click.echo(f"{name} works and serves {len(served)} models: {', '.join(model.id for model in served)}")


@upstreams_group.command("remove")
@click.argument("name")
@yes_option
@click.pass_context
def remove_upstream(context: click.Context, name: str, yes: bool) -> None:
    """Remove an upstream and the credentials stored for it. Asks first."""
    database = services(context).database
    upstreams.find(database, name)
    confirm(f"This removes the upstream {name!r} and the credentials stored for it.", yes)
    upstreams.remove(database, name)
    click.echo(f"The upstream {name!r} is removed.", err=True)
