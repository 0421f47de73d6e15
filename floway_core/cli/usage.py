"""``floway usage``: requests, tokens and cost."""

import json
from collections.abc import Sequence

import click
import peewee

from floway_core.administration import usage
from floway_core.administration.groups import GroupRow
from floway_core.administration.groups import all_rows as all_groups
from floway_core.administration.keys import KeyRow
from floway_core.administration.keys import all_rows as all_keys
from floway_core.administration.usage import Usage
from floway_core.cli.budget_options import describe_budget
from floway_core.cli.context import ReadOnlyCommand, services
from floway_core.cli.table import table

COUNTS = ("requests", "failed_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
HEADINGS = ("REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST (USD)")


@click.command("usage", cls=ReadOnlyCommand)
@click.option(
    "--by", type=click.Choice(list(usage.GROUPS)), multiple=True, help="May be repeated.  [default: key, model]"
)
@click.option("--since", metavar="DATE|DAYS", help="The first day (UTC): 2026-01-31, or 7d for seven days ago.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def show_usage(context: click.Context, by: tuple[str, ...], since: str | None, as_json: bool) -> None:
    """Show requests, tokens, cost and budgets. Cached tokens are part of the input, reasoning is part of the output.

    The cost is computed with the price at the time of the request (setting FLOWAY_PRICES). For an account with a flat
    rate, it is the cost without one.
    """
    groups = by or usage.DEFAULT_GROUPS
    try:
        first = usage.parse_since(since) if since else None
    except ValueError as error:
        raise click.BadParameter(f"{since!r} is not {error}.", context, param_hint="--since") from None
    database = services(context).database
    rows = usage.read(database, groups, first)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows], indent=2))
    elif not rows:
        when = f" since {first}" if first else " yet"
        click.echo(f"There is no usage{when}. Requests with an API key are counted a second after they have ended.")
    else:
        click.echo(table((*(name.upper() for name in groups), *HEADINGS), [*_cells(rows), *_total(rows, len(groups))]))
    if not as_json:
        _show_budgets(database)


def _show_budgets(database: peewee.Database) -> None:
    """Print what is spent of each budget, if there are any."""
    holders: list[tuple[str, str, GroupRow | KeyRow]] = [("group", row.name, row) for row in all_groups(database)]
    holders += [("key", row.name, row) for row in all_keys(database)]
    budgets = [
        (kind, name, term)
        for kind, name, row in holders
        for term in describe_budget(row.usd_per_day, row.usd_per_month, row.spent)
    ]
    if budgets:
        click.echo("\n" + table(("BUDGET OF", "NAME", "SPENT"), budgets))


def _cells(rows: Sequence[Usage]) -> list[tuple[object, ...]]:
    return [(*row.group.values(), *(vars(row)[name] for name in COUNTS), _cost(row)) for row in rows]


def _total(rows: Sequence[Usage], columns: int) -> list[tuple[object, ...]]:
    """Return a line with the sums, if there are several rows."""
    if len(rows) < 2:
        return []
    sums = {name: sum(vars(row)[name] for row in rows) for name in usage.SUM_FIELDS}
    ((*_, cost),) = _cells([Usage({}, **sums)])
    return [("all", *[""] * (columns - 1), *(sums[name] for name in COUNTS), cost)]


def _cost(row: Usage) -> str:
    cost = f"{row.known_cost_usd:.4f}"
    if row.cost_usd is not None:
        return cost
    return f"{cost} + unknown" if row.known_cost_usd else "unknown"
