"""The options of an API key as fields of a page."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from floway_core.administration.keys import KeyRow, Options
from floway_core.contexts import Upstream
from floway_dashboard.forms import Form

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
    Limit("concurrent_requests", "Requests at a time", "Streamed ones and others. Empty: no limit."),
    Limit("tokens_per_day", "Tokens per day", "Input and output, in a day of UTC. Empty: no limit."),
    Limit(
        "max_stored_bytes",
        "Stored bytes",
        "What its conversations may take in the database. Empty: as in the settings.",
    ),
)


def read_options(form: Form, upstreams: Sequence[Upstream]) -> Options:
    """Return all options of a key as they were entered; None for what was left empty. Notes what is wrong.

    :param upstreams: those that can be chosen.
    """
    chosen = [row.name for row in upstreams if form.is_set(UPSTREAM_BOX + row.id)]
    options = {
        "expires_at": _read_time(form, "expires_at"),
        "models": form.lines("models") or None,
        "upstreams": chosen or None,
        "shows_account": form.is_set("shows_account") or None,
        **{limit.name: form.number(limit.name) for limit in LIMITS},
    }
    return cast(Options, options)


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


def shown_time(unix: int | None) -> str:
    """Return the value of a field for a date and a time, in UTC."""
    if unix is None:
        return ""
    return datetime.datetime.fromtimestamp(unix, datetime.UTC).strftime("%Y-%m-%dT%H:%M")


def describe_limits(row: KeyRow) -> list[str]:
    """Return what a key may do, in a few words each."""
    terms = [
        row.models is not None and f"models: {', '.join(row.models)}",
        row.upstreams is not None and f"upstreams: {', '.join(row.upstreams)}",
        row.requests_per_minute and f"{row.requests_per_minute:,} requests a minute",
        row.concurrent_requests and f"{row.concurrent_requests:,} at a time",
        row.tokens_per_day and f"{row.tokens_per_day:,} tokens a day",
        row.max_stored_bytes and f"{row.max_stored_bytes:,} stored bytes",
        row.shows_account and "shows the account",
    ]
    return [term for term in terms if term]
