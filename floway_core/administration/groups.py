"""Groups of API keys, which share a budget: list, add, change, remove; and amounts of money as texts."""

from floway_core.prices import MAX_USD
from floway_core.storage.budget_options import SpentUsd
from floway_core.storage.budgets import format_usd
from floway_core.storage.groups import GroupOptions, GroupRow, add, all_rows, change, find, remove

__all__ = [
    "MAX_USD",
    "GroupOptions",
    "GroupRow",
    "SpentUsd",
    "add",
    "all_rows",
    "change",
    "find",
    "format_usd",
    "remove",
]
