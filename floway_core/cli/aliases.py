"""``floway aliases``: other names for models, with fallbacks and overrides."""

import json
from dataclasses import asdict

import click

from floway_core.administration import aliases, models
from floway_core.cli.context import ReadOnlyCommand, Session, services
from floway_core.cli.table import table


@click.group("aliases")
def aliases_group() -> None:
    """Aliases: names for models, with fallbacks and overrides."""


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
    """Create an alias NAME for models, or replace it.

    The first model is preferred; if it fails, the next one is tried. Name models as clients do. With @UPSTREAM only
    that upstream is used. If the name of a model contains an @, add one at its end. Options override the client's
    request.
    """
    database = session.services.database
    overrides = aliases.Overrides(effort, verbosity, service_tier)
    aliases.put(database, name, aliases.parse_targets(database, targets), overrides)
    click.echo(f"{name!r} is an alias for {', '.join(targets)}.", err=True)
    offer = models.list_models(session.gateway, wait_for_all=True)
    if not any(model.id == name for model in offer.models):
        click.echo("No upstream serves it now, so clients cannot request it; see: floway models", err=True)


@aliases_group.command("list", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_aliases(context: click.Context, as_json: bool) -> None:
    """List the aliases with their targets."""
    rows = aliases.all_rows(services(context).database)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo("There is no alias. `floway aliases set NAME MODEL` makes one; `floway models` lists the models.")
    else:
        cells = [
            (
                row.name,
                ", ".join(aliases.format_targets(row)) or "-",
                row.effort or "-",
                row.verbosity or "-",
                row.service_tier or "-",
            )
            for row in rows
        ]
        click.echo(table(("ALIAS", "MODELS", "EFFORT", "VERBOSITY", "SERVICE TIER"), cells))


@aliases_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_alias(context: click.Context, name: str) -> None:
    """Remove an alias."""
    aliases.remove(services(context).database, name)
    click.echo(f"The alias {name!r} is removed.", err=True)
