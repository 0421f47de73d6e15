"""The budget as options of commands and as text in their output."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from floway_core.administration.groups import SpentUsd, format_usd
from floway_core.prices import BILLION

PERIODS = {"day": "usd_per_day", "month": "usd_per_month"}
"""The field of a budget for each period."""

BUDGET_FIELDS = tuple(PERIODS.values())

Command = TypeVar("Command", bound=Callable[..., Any])


class Amount(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """An amount of USD and a period, as the field of the budget and its value."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Parse the value; fail with a message of click if it is not an amount for a period."""
        if not (parts := re.fullmatch(r"\$?(\d{1,10}(?:\.\d{1,9})?)/(day|month)", value)):
            self.fail(f"{value!r} is not an amount of USD for a period, such as 50/month or 2.50/day.", param, ctx)
        return PERIODS[parts[2]], float(parts[1])


def budget_options(command: Command) -> Command:
    """Add the options that set a budget."""
    for option in (
        click.option(
            "--allow-unpriced/--refuse-unpriced",
            "allows_unpriced",
            default=None,
            help="Whether models without a known price may be used in spite of the budget.  [default: refuse]",
        ),
        click.option(
            "--budget",
            "budgets",
            type=Amount(),
            multiple=True,
            metavar="USD/day|month",
            help="Money for each UTC day or month: 50/month. Repeat it to set both.",
        ),
    ):
        command = option(command)
    return command


def read_budgets(budgets: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the fields that ``--budget`` sets.

    :raises click.UsageError: the same period is set twice.
    """
    fields: dict[str, float] = {}
    for field, usd in budgets:
        if field in fields:
            raise click.UsageError("--budget sets the same period twice.")
        fields[field] = usd
    return fields


def describe_budget(usd_per_day: float | None, usd_per_month: float | None, spent: SpentUsd | None) -> list[str]:
    """Return what is spent of each budget, as ``12.50 of 50.00 USD this month``."""
    spent = spent or SpentUsd(0, 0, 0)
    periods = ((usd_per_day, spent.usd_today, "today"), (usd_per_month, spent.usd_this_month, "this month"))
    terms = [f"{_format(used)} of {_format(limit)} USD {period}" for limit, used, period in periods if limit]
    if spent.unpriced_requests:
        terms.append(f"{spent.unpriced_requests} requests of unknown cost")
    return terms


def _format(usd: float) -> str:
    return format_usd(round(usd * BILLION))
