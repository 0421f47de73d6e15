"""Requests, errors, tokens, cost and times: today and over the last days, by model, key and upstream."""

import datetime
from collections.abc import Sequence

from flask import Blueprint, Response, request
from markupsafe import Markup

from floway_core.errors import GatewayError
from floway_dashboard import figures, filters
from floway_dashboard.charts import stacked_bars
from floway_dashboard.figures import Row
from floway_dashboard.page import page
from floway_dashboard.pagination import paginate
from floway_dashboard.recording import first_bytes
from floway_dashboard.state import current_services

blueprint = Blueprint("overview", __name__)

GROUPS = {"model": "Models", "key": "API keys", "upstream": "Upstreams"}
"""The heading of each table."""
TOP = 6
"""Rows of a table on this page. Another page has all of them."""


@blueprint.get("/overview")
def index() -> Response:
    """Show the sums of a period, charts of the last days, and the most used models, keys and upstreams."""
    database, period = current_services().database, _period()
    since = figures.first_day(period)
    rows = figures.read_usage(database, list(GROUPS), since)
    groups = {by: figures.sum_groups(rows, by) for by in GROUPS}
    days = figures.sum_days(database)
    (total,) = figures.add_times(database, [Row("", figures.add_up("", rows).usage)], first_bytes.ALL, since)
    return page(
        "dashboard/overview.html",
        title="Overview",
        period=period,
        periods=figures.PERIODS,
        total=total,
        days=list(reversed(days)),
        charts=_charts(days),
        groups=[
            (by, heading, figures.add_times(database, groups[by][:TOP], by, since), len(groups[by]))
            for by, heading in GROUPS.items()
        ],
    )


@blueprint.get("/usage/<by>")
def ranking(by: str) -> Response:
    """Show all models, keys or upstreams that were used in a period."""
    if by not in GROUPS:
        raise GatewayError(404, "There is no such page.")
    database, period = current_services().database, _period()
    since = figures.first_day(period)
    part = paginate(figures.sum_groups(figures.read_usage(database, [by], since), by))
    return page(
        "dashboard/usage.html",
        title=f"Usage: {GROUPS[by]}",
        by=by,
        period=period,
        periods=figures.PERIODS,
        part=part,
        rows=figures.add_times(database, part.items, by, since),
    )


def _period() -> str:
    period = request.args.get("period", "30d")
    return period if period in figures.PERIODS else "30d"


def _charts(days: Sequence[Row]) -> list[tuple[str, list[str], Markup]]:
    """Return the heading, the names of the series and the picture of each chart."""
    labels = [datetime.date.fromisoformat(row.name).strftime("%-d %b") for row in days]
    series: dict[str, dict[str, list[float]]] = {
        "Requests": {
            "completed": [row.usage.requests - row.usage.failed_requests for row in days],
            "failed": [row.usage.failed_requests for row in days],
        },
        "Tokens": {
            "input": [row.usage.input_tokens - row.usage.cached_tokens for row in days],
            "cached input": [row.usage.cached_tokens for row in days],
            "output": [row.usage.output_tokens for row in days],
        },
    }
    return [
        (
            heading,
            list(values),
            stacked_bars(f"{heading} of the last {len(days)} days, by day", labels, values, filters.short_number),
        )
        for heading, values in series.items()
    ]
