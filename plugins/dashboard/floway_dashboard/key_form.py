"""The options of an API key as fields of a page."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from floway_core.administration.groups import GroupOptions, GroupRow
from floway_core.administration.keys import KeyRow, Options
from floway_core.contexts import Upstream
from floway_dashboard.filters import money
from floway_dashboard.forms import Form

ONLY = "only"
"""The value of the field ``upstreams`` for a key that may only use those that are ticked."""

UPSTREAM_BOX = "upstream."
"""Before the id of an upstream, in the names of the boxes that choose it."""


@dataclass(frozen=True)
class Limit:
    """An option that is a whole number."""

    name: str
    """As in ``Options``."""
    label: str
    hint: str


LIMITS = (
    Limit("requests_per_minute", "Requests per minute", "Further ones are refused. Empty: no limit."),
    Limit("concurrent_requests", "Requests at a time", "Streamed or not. Empty: no limit."),
    Limit("tokens_per_day", "Tokens per day", "Input and output, per day in UTC. Empty: no limit."),
    Limit(
        "max_stored_bytes",
        "Stored bytes",
        "Limit for its conversations. Empty: the limit in the settings.",
    ),
)


def read_options(form: Form, upstreams: Sequence[Upstream], key: KeyRow | None = None) -> Options:
    """Return the options of a key as they were entered; None for what was left empty. Notes what is wrong.

    :param upstreams: those that can be chosen.
    :param key: the key that changes.
    """
    chosen = [row.name for row in upstreams if form.is_set(UPSTREAM_BOX + row.id)]
    is_limited = form.text("upstreams") == ONLY
    options: dict[str, object] = {
        "expires_at": _read_time(form, "expires_at"),
        "models": form.lines("models") or None,
        "upstreams": chosen if is_limited else None,
        "shows_account": form.is_set("shows_account") or None,
        **{limit.name: form.number(limit.name) for limit in LIMITS},
        "group": form.text("group") or None,
        **read_budget(form),
    }
    if is_limited and not chosen:
        if key is None or not key.upstreams or {row.name for row in upstreams} & set(key.upstreams):
            form.errors["upstreams"] = "Tick at least one, or let it use all."
        else:
            del options["upstreams"]  # all upstreams of the key have been removed; its limit stays
    return cast(Options, options)


def read_budget(form: Form) -> GroupOptions:
    """Return the budget of a key or a group as it was entered; None for what was left empty. Notes what is wrong."""
    return {
        "usd_per_day": _read_amount(form, "usd_per_day"),
        "usd_per_month": _read_amount(form, "usd_per_month"),
        "allows_unpriced": form.is_set("allows_unpriced") or None,
    }


def _read_amount(form: Form, name: str) -> float | None:
    text = form.text(name).replace(",", "").removeprefix("$")
    if not text:
        return None
    if not re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text, re.ASCII) or not float(text):
        form.errors[name] = "Enter an amount of US dollars such as 2.50, or leave the field empty."
        return None
    return float(text)


def describe_budget(row: KeyRow | GroupRow) -> list[str]:
    """Return a short description of each part of the budget of a key or a group."""
    amounts = ((row.usd_per_day, "day"), (row.usd_per_month, "month"))
    terms = [f"{money(usd)} a {span}" for usd, span in amounts if usd is not None]
    return [*terms, "also models without a price"] if terms and row.allows_unpriced else terms


def _read_time(form: Form, name: str) -> int | None:
    text = form.text(name)
    if not text:
        return None
    try:
        time = datetime.datetime.fromisoformat(text)
        return int(time.replace(tzinfo=time.tzinfo or datetime.UTC).timestamp())
    except (ValueError, OverflowError):
        form.errors[name] = "Enter a date and a time such as 2030-12-31T12:00."
        return None


def format_time(unix: int | None) -> str:
    """Return the value of a field for a date and a time, in UTC."""
    if unix is None:
        return ""
    return datetime.datetime.fromtimestamp(unix, datetime.UTC).strftime("%Y-%m-%dT%H:%M")


def describe_limits(row: KeyRow) -> list[str]:
    """Return a short description of each limit of a key."""
    terms = [
        row.models is not None and f"models: {', '.join(row.models)}",
        row.upstreams is not None and f"upstreams: {', '.join(row.upstreams)}",
        row.requests_per_minute and f"{row.requests_per_minute:,} requests a minute",
        row.concurrent_requests and f"{row.concurrent_requests:,} at a time",
        row.tokens_per_day and f"{row.tokens_per_day:,} tokens a day",
        row.max_stored_bytes and f"{row.max_stored_bytes:,} stored bytes",
        row.shows_account and "shows the account",
        row.group is not None and f"group {row.group}",
    ]
    return [*(term for term in terms if term), *describe_budget(row)]
