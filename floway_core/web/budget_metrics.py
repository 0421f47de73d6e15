"""The metric of budgets: how much of them the groups of API keys have used."""

from collections.abc import Iterable

import peewee
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from floway_core.storage import groups


class BudgetCollector(Collector):
    """Reads the groups from the database at each scrape, so every instance shows the same."""

    def __init__(self, database: peewee.Database) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        """Return nothing: when a collector is registered, the library would otherwise call ``collect``."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the used share of each budget of a group; 1 and more if it is used up."""
        gauge = GaugeMetricFamily(
            "floway_budget_used_ratio", "Part of a group's budget that is spent.", labels=("group", "period")
        )
        for row in groups.all_rows(self._database):
            periods = (
                ("day", row.usd_per_day, row.spent.usd_today),
                ("month", row.usd_per_month, row.spent.usd_this_month),
            )
            for period, limit, spent in periods:
                if limit:
                    gauge.add_metric((row.name, period), spent / limit)
        return (gauge,)
