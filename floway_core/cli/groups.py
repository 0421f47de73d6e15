"""``floway groups``: groups of API keys, which share a budget."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

import click

from floway_core.administration import groups
from floway_core.administration.groups import GroupOptions
from floway_core.cli.budget_options import BUDGET_FIELDS, budget_options, describe_budget, read_budgets
from floway_core.cli.context import ReadOnlyCommand, services
from floway_core.cli.table import date, table


@click.group("groups")
def groups_group() -> None:
    """Groups of API keys, which share a budget. `floway keys change KEY --group NAME` puts a key into one."""


@groups_group.command("add")
@click.argument("name")
@budget_options
@click.pass_context
def add_group(
    context: click.Context, name: str, budgets: Iterable[tuple[str, float]], allows_unpriced: bool | None
) -> None:
    """Add a group without keys."""
    groups.add(services(context).database, name, _read_options(budgets, allows_unpriced))
    click.echo(f"The group {name!r} is added. `floway keys change KEY --group {name}` puts a key into it.", err=True)


@groups_group.command("list", cls=ReadOnlyCommand)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_groups(context: click.Context, as_json: bool) -> None:
    """List all groups, their keys, and what they have spent."""
    rows = groups.all_rows(services(context).database)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo("There is no group. `floway groups add NAME --budget 50/month` makes one.")
    else:
        cells = [(row.name, date(row.created_at), ", ".join(row.keys) or "-", _describe(row)) for row in rows]
        click.echo(table(("NAME", "CREATED", "KEYS", "BUDGET"), cells))


def _describe(row: groups.GroupRow) -> str:
    terms = describe_budget(row.usd_per_day, row.usd_per_month, row.spent)
    return "; ".join([*terms, *(["models without a price allowed"] if row.allows_unpriced else [])]) or "-"


@groups_group.command("change")
@click.argument("name")
@click.option("--name", "new_name", help="A new name. Its keys and what they have spent stay.")
@budget_options
@click.option("--clear", is_flag=True, help="Lift its budget; one that --budget sets stays.")
@click.pass_context
def change_group(
    context: click.Context,
    name: str,
    new_name: str | None,
    budgets: Iterable[tuple[str, float]],
    allows_unpriced: bool | None,
    clear: bool,
) -> None:
    """Change the name or the budget of a group."""
    options = _read_options(budgets, allows_unpriced)
    if clear:
        options = cast(GroupOptions, {**dict.fromkeys(BUDGET_FIELDS), **options})
    if new_name is not None:
        options["name"] = new_name
    if not options:
        raise click.UsageError("There is nothing to change.")
    groups.change(services(context).database, name, options)
    click.echo(f"The group {name!r} is changed.", err=True)


@groups_group.command("remove")
@click.argument("name")
@click.pass_context
def remove_group(context: click.Context, name: str) -> None:
    """Remove a group that has no keys."""
    groups.remove(services(context).database, name)
    click.echo(f"The group {name!r} is removed.", err=True)


def _read_options(budgets: Iterable[tuple[str, float]], allows_unpriced: bool | None) -> GroupOptions:
    options = {**read_budgets(budgets), **({} if allows_unpriced is None else {"allows_unpriced": allows_unpriced})}
    return cast(GroupOptions, options)
