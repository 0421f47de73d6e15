"""``floway aliases``: names that stand for other models."""

import json
from dataclasses import asdict

import click

from floway_core.cli.context import ReadOnlyCommand, Session, services
from floway_core.cli.table import table
from floway_core.engine import routing
from floway_core.errors import GatewayError
from floway_core.storage import aliases, upstreams


@click.group("aliases")
def aliases_group() -> None:
    """Names by which clients may ask for other models."""


@aliases_group.command("set")
@click.argument("name")
@click.argument("targets", metavar="MODEL[@UPSTREAM]...", nargs=-1, required=True)
@click.option("--effort", help="Reasoning effort, such as low or high.")
@click.option("--verbosity", help="Verbosity of the text, such as low or high.")
@click.option("--service-tier", help="Service tier, such as flex or priority.")
@click.pass_obj
def set_alias(
    session: Session,
    name: str,
    targets: tuple[str, ...],
    effort: str | None,
    verbosity: str | None,
    service_tier: str | None,
) -> None:
    """Let NAME stand for other models.

    The preferred one comes first, and the next is tried when one fails. Models are named as clients ask for them. With
    @UPSTREAM only that upstream is asked; a model that has an @ in its own name gets one more at the end. What the
    options say goes before what the client says.
    """
    database = session.services.database
    names = {row.name for row in upstreams.all_rows(database)}
    overrides = aliases.Overrides(effort, verbosity, service_tier)
    aliases.put(database, name, [_target(text, names) for text in targets], overrides)
    click.echo(f"{name!r} stands for {', '.join(targets)}.", err=True)
    offer = routing.list_offered(session.gateway, wait_for_all=True)
    if not any(candidate.model.id == name for candidate in offer.candidates):
        click.echo("No upstream serves that now, so clients cannot ask for it; see: floway models", err=True)


def _target(text: str, upstream_names: set[str]) -> tuple[str, str | None]:
    """(model, name of the upstream or None). Both may have an @ in their names: that of an upstream is known."""
    pieces = text.split("@")
    if not pieces[-1]:
        return "@".join(pieces[:-1]), None
    for count in range(1, len(pieces)):
        upstream = "@".join(pieces[count:])
        if upstream in upstream_names:
            return "@".join(pieces[:count]), upstream
    if len(pieces) > 1:
        raise GatewayError(400, f"There is no upstream named {text.partition('@')[2]!r}.", param="targets")
    return text, None


@aliases_group.command("list", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_aliases(context: click.Context, as_json: bool) -> None:
    """List the aliases with what they stand for."""
    rows = aliases.all_rows(services(context).database)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo("There is no alias. `floway aliases set NAME MODEL` makes one; `floway models` lists the models.")
    else:
        cells = [
            (row.name, _shown(row), row.effort or "-", row.verbosity or "-", row.service_tier or "-") for row in rows
        ]
        click.echo(table(("ALIAS", "STANDS FOR", "EFFORT", "VERBOSITY", "SERVICE TIER"), cells))


def _shown(row: aliases.AliasRow) -> str:
    """The targets as ``floway aliases set`` takes them."""
    texts = []
    for target in row.targets:
        model, upstream = target["model"] or "", target["upstream"]
        texts.append(f"{model}@{upstream}" if upstream else model + "@" * ("@" in model))
    return ", ".join(texts) or "-"


@aliases_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_alias(context: click.Context, name: str) -> None:
    """Forget an alias."""
    aliases.remove(services(context).database, name)
    click.echo(f"The alias {name!r} is removed.", err=True)
