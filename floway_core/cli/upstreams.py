"""``floway upstreams`` and ``floway models``: what requests can be sent to."""

import json
from dataclasses import asdict

import click

from floway_core.cli.session import ReadOnlyCommand, Session, services
from floway_core.cli.table import table
from floway_core.engine import resolve
from floway_core.errors import StartupError
from floway_core.store import upstreams


@click.command("models", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_models(session: Session, as_json: bool) -> None:
    """List the models and who serves them.

    The upstreams of a model stand in the order in which they are tried.
    """
    offer = resolve.offer(session.gateway, wait_for_all=True)
    served: dict[str, list[resolve.Candidate]] = {}
    for candidate in offer.candidates:
        served.setdefault(candidate.model.id, []).append(candidate)
    if as_json:
        names = {model: [candidate.upstream.name for candidate in found] for model, found in served.items()}
        click.echo(json.dumps(names, indent=2))
    else:
        cells = [(model, ", ".join(map(_place, found))) for model, found in served.items()]
        click.echo(table(("MODEL", "UPSTREAMS"), cells))
    for name in offer.failed:
        click.echo(f"The models of {name!r} cannot be had; see: floway upstreams test {name}", err=True)


def _place(candidate: resolve.Candidate) -> str:
    """The upstream, and the model as it names it if clients do not name it so."""
    own = candidate.upstream_name
    return candidate.upstream.name if own == candidate.model.id else f"{candidate.upstream.name} ({own})"


@click.group("upstreams")
def upstreams_group() -> None:
    """Configured upstreams. Most providers bring their own commands to add one."""


@upstreams_group.command("add")
@click.argument("kind")
@click.argument("name")
@click.option("--prefix", default="", help="Clients ask for PREFIX/model.")
@click.pass_context
def add_upstream(context: click.Context, kind: str, name: str, prefix: str) -> None:
    """Add an upstream of a provider that has nothing to set up. Others bring a command: `floway KIND --help`."""
    session: Session = context.obj
    if kind not in session.gateway.providers.by_kind:
        raise StartupError(f"There is no provider {kind!r}.")
    if kind in context.find_root().command.commands:
        raise StartupError(f"This provider has a command of its own to add an upstream: floway {kind} --help")
    upstreams.add(session.services.database, kind, name, prefix)
    click.echo(f"Added the upstream {name!r}.", err=True)


@upstreams_group.command("list", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def list_upstreams(session: Session, as_json: bool) -> None:
    """List the upstreams and their states.

    They stand in the order in which they are tried. A state other than "ready" is what is known to keep one from
    serving; nobody is asked.
    """
    rows = [(row, session.gateway.problem(row)) for row in upstreams.all_rows(session.services.database)]
    if as_json:
        click.echo(json.dumps([{**asdict(row), "problem": problem} for row, problem in rows], indent=2))
    else:
        cells = [
            (row.name, row.kind, "yes" if row.enabled else "no", row.prefix or "-", row.id, problem or "ready")
            for row, problem in rows
        ]
        click.echo(table(("NAME", "PROVIDER", "ENABLED", "PREFIX", "ID", "STATE"), cells))


@upstreams_group.command("enable")
@click.argument("name")
@click.pass_context
def enable_upstream(context: click.Context, name: str) -> None:
    """Serve from an upstream."""
    upstreams.change(services(context).database, name, enabled=True)


@upstreams_group.command("disable")
@click.argument("name")
@click.pass_context
def disable_upstream(context: click.Context, name: str) -> None:
    """Leave an upstream out, without forgetting it."""
    upstreams.change(services(context).database, name, enabled=False)


@upstreams_group.command("move")
@click.argument("name")
@click.argument("place", type=click.IntRange(1))
@click.pass_context
def move_upstream(context: click.Context, name: str, place: int) -> None:
    """Change the order: PLACE 1 is tried first."""
    upstreams.change(services(context).database, name, place=place)


@upstreams_group.command("prefix")
@click.argument("name")
@click.argument("prefix", default="")
@click.pass_context
def set_prefix(context: click.Context, name: str, prefix: str) -> None:
    """Have clients ask for PREFIX/model.

    Without PREFIX they ask for the model alone.
    """
    upstreams.change(services(context).database, name, prefix=prefix)


@upstreams_group.command("test", cls=ReadOnlyCommand)
@click.argument("name")
@click.pass_obj
def test_upstream(session: Session, name: str) -> None:
    """Ask an upstream for its models now.

    It is asked with the credentials stored for it, whether it is enabled or not.
    """
    found = resolve.ask(session.gateway, name)
    click.echo(f"{name} works and serves {len(found)} models: {', '.join(model.id for model in found)}")


@upstreams_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_upstream(context: click.Context, name: str) -> None:
    """Remove an upstream and the credentials stored for it."""
    upstreams.remove(services(context).database, name)
    click.echo(f"The upstream {name!r} is removed.", err=True)
