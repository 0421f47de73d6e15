"""The budget among the options of a key or a group: its check, how it is stored, and how it is shown."""

import math
from dataclasses import dataclass
from typing import Any, TypedDict

from floway_core.errors import GatewayError
from floway_core.prices import BILLION, MAX_USD, to_billionths
from floway_core.storage.budgets import Spent
from floway_core.storage.tables import ApiKeys, KeyGroups

BUDGET_OPTIONS = {
    "usd_per_day": "day_budget",
    "usd_per_month": "month_budget",
    "allows_unpriced": "allows_unpriced",
}
"""The column of each option."""


@dataclass(frozen=True)
class SpentUsd:
    """What a key or a group has spent in the current day and month (UTC)."""

    usd_today: float
    usd_this_month: float
    unpriced_requests: int
    """Requests of this month whose cost is unknown, and not included."""


class BudgetFields(TypedDict):
    """The fields of a budget in a list of keys or groups."""

    usd_per_day: float | None
    usd_per_month: float | None
    allows_unpriced: bool


def to_budget_column(option: str, value: Any) -> int | bool:
    """Check a value that is not None, and convert it to that of its column.

    :raises GatewayError: 400, the value is invalid.
    """
    if option == "allows_unpriced":
        if type(value) is not bool:
            raise GatewayError(400, f"{option!r} is true or false, or null for false.", param=option)
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 1 / BILLION <= value <= MAX_USD:
        message = f"{option!r} is an amount of USD above 0 and up to {MAX_USD}, or null for none."
        raise GatewayError(400, message, param=option)
    return to_billionths(value)


def budget_fields(row: ApiKeys | KeyGroups) -> BudgetFields:
    """Return the fields of a budget."""
    return {
        "usd_per_day": _to_usd(row.day_budget),
        "usd_per_month": _to_usd(row.month_budget),
        "allows_unpriced": bool(row.allows_unpriced),
    }


def to_spent_usd(spent: Spent) -> SpentUsd:
    """Return what is spent in USD."""
    return SpentUsd(spent.today / BILLION, spent.this_month / BILLION, spent.unpriced_requests)


def _to_usd(billionths: Any) -> float | None:
    return None if billionths is None else billionths / BILLION
