"""``floway upstreams`` and ``floway models``: what requests can be sent to."""

import json
from dataclasses import asdict

import click

from floway_core.cli.session import Session, services
from floway_core.cli.table import table
from floway_core.engine import resolve
from floway_core.errors import GatewayError, StartupError
from floway_core.store import upstreams


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_models(session: Session, as_json: bool) -> None:
    """List the models and the upstreams that serve them, in the order in which those are tried."""
    offer = resolve.offer(session.gateway)
    served: dict[str, list[str]] = {}
    for candidate in offer.candidates:
        served.setdefault(candidate.model.id, []).append(candidate.upstream.name)
    if as_json:
        click.echo(json.dumps(served, indent=2))
    else:
        click.echo(table(("MODEL", "UPSTREAMS"), [(model, ", ".join(names)) for model, names in served.items()]))
    for name in offer.failed:
        click.echo(f"The models of {name!r} cannot be had; see: floway upstreams test {name}", err=True)


@click.group("upstreams")
def upstreams_group() -> None:
    """Configured upstreams. Most providers bring their own commands to add one."""


@upstreams_group.command("add")
@click.argument("kind")
@click.argument("name")
@click.pass_context
def add_upstream(context: click.Context, kind: str, name: str) -> None:
    """Add an upstream of a provider that has nothing to set up. Others bring a command: `floway KIND --help`."""
    session: Session = context.obj
    if kind not in session.gateway.providers.by_kind:
        raise StartupError(f"There is no provider {kind!r}.")
    if kind in context.find_root().command.commands:
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
        click.echo(table(("NAME", "PROVIDER", "ENABLED", "ID"), cells))


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
    provider = session.gateway.providers.by_kind.get(row.kind)
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
