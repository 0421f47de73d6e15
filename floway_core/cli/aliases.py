"""``floway aliases``: other names for models, with fallbacks and overrides."""

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
    names = {row.name for row in upstreams.all_rows(database)}
    overrides = aliases.Overrides(effort, verbosity, service_tier)
    aliases.put(database, name, [_parse_target(text, names) for text in targets], overrides)
    click.echo(f"{name!r} is an alias for {', '.join(targets)}.", err=True)
    catalogue = routing.list_offered(session.gateway, wait_for_all=True)
    if not any(candidate.model.id == name for candidate in catalogue.candidates):
        click.echo("No upstream serves it now, so clients cannot request it; see: floway models", err=True)


def _parse_target(text: str, upstream_names: set[str]) -> tuple[str, str | None]:
    """Split ``MODEL[@UPSTREAM]``. Both names may contain an @, so the existing upstreams decide.

    :returns: model, and name of the upstream or None.
    :raises GatewayError: there is no such upstream.
    """
    parts = text.split("@")
    if not parts[-1]:
        return "@".join(parts[:-1]), None
    for count in range(1, len(parts)):
        upstream = "@".join(parts[count:])
        if upstream in upstream_names:
            return "@".join(parts[:count]), upstream
    if len(parts) > 1:
        raise GatewayError(400, f"There is no upstream named {text.partition('@')[2]!r}.", param="targets")
    return text, None


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
            (row.name, _format_targets(row), row.effort or "-", row.verbosity or "-", row.service_tier or "-")
            for row in rows
        ]
        click.echo(table(("ALIAS", "STANDS FOR", "EFFORT", "VERBOSITY", "SERVICE TIER"), cells))


def _format_targets(row: aliases.AliasRow) -> str:
    """Format the targets as ``floway aliases set`` accepts them."""
    texts = []
    for target in row.targets:
        model, upstream = target["model"] or "", target["upstream"]
        texts.append(f"{model}@{upstream}" if upstream else model + "@" * ("@" in model))
    return ", ".join(texts) or "-"


@aliases_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_alias(context: click.Context, name: str) -> None:
    """Remove an alias."""
    aliases.remove(services(context).database, name)
    click.echo(f"The alias {name!r} is removed.", err=True)
