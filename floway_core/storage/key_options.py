"""Check the options of an API key, and convert them to columns."""

import json
import time
from collections.abc import Mapping
from typing import Any, TypedDict

import peewee

from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.storage.budget_options import BUDGET_OPTIONS, to_budget_column
from floway_core.storage.db import select

MAX_NAME_LENGTH = 100

MAX_LIMITS = {
    "requests_per_minute": 1_000_000,
    "concurrent_requests": 1_000_000,
    "tokens_per_day": 10**15,
    "max_stored_bytes": 10**15,
}
"""The limits that a key can have, and their greatest values."""

MAX_EXPIRY = 253_402_300_799
"""The end of the year 9999 in Unix seconds. Python's dates end there."""


class Options(TypedDict, total=False):
    """The options of a key. None resets an option; an option that is missing stays unchanged."""

    expires_at: int | None
    """Unix time in seconds at which it expires; in the future."""
    models: list[str] | None
    """The only models it may use, by the names that clients request."""
    upstreams: list[str] | None
    """Names of the only upstreams it may use."""
    requests_per_minute: int | None
    concurrent_requests: int | None
    """Requests at the same time, whether they stream or not."""
    tokens_per_day: int | None
    """Input and output tokens in a UTC day."""
    max_stored_bytes: int | None
    """Size of its conversations in the database, in bytes; None: the limit in the settings."""
    shows_account: bool | None
    """Whether its clients see account details in the answers of upstreams."""
    group: str | None
    """Name of the group whose budget it shares."""
    usd_per_day: float | None
    """Money in a UTC day."""
    usd_per_month: float | None
    """Money in a month in UTC."""
    allows_unpriced: bool | None
    """Whether it may use models without a known price in spite of its budget."""


COLUMNS = {"group": "group_id", **BUDGET_OPTIONS}
"""The columns that are not named like their option."""


def to_columns(database: peewee.Database, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options and convert them to the columns of the table.

    :raises GatewayError: 400, an option is invalid.
    """
    columns: dict[str, Any] = {}
    for name, value in options.items():
        if name not in Options.__annotations__:
            raise GatewayError(400, f"{name[:40]!r} is not an option of an API key.", param=name[:40])
        columns[COLUMNS.get(name, name)] = None if value is None else _to_column(database, name, value)
    return columns


def _to_column(database: peewee.Database, name: str, value: Any) -> int | str:
    if name == "shows_account":
        if type(value) is not bool:
            raise GatewayError(400, f"{name!r} is true or false, or null for false.", param=name)
        return value
    if name in BUDGET_OPTIONS:
        return to_budget_column(name, value)
    if name == "group":
        return _find_group(database, value)
    if name == "models":
        return _as_json(set(_check_names(name, value)))
    if name == "upstreams":
        ids = {row.name: row.id for row in upstreams.all_rows(database)}
        for upstream in _check_names(name, value):
            if upstream not in ids:
                raise GatewayError(400, f"There is no upstream named {upstream!r}.", param=name)
        return _as_json({ids[upstream] for upstream in value})
    if name == "expires_at":
        now = int(time.time())
        if type(value) is not int or not now < value <= MAX_EXPIRY:
            raise GatewayError(400, "The expiry of a key must be in the future, in Unix seconds.", param=name)
        return value
    if type(value) is not int or not 1 <= value <= MAX_LIMITS[name]:
        raise GatewayError(400, f"{name!r} is a whole number from 1 to {MAX_LIMITS[name]}, or null.", param=name)
    return value


def _find_group(database: peewee.Database, name: Any) -> str:
    rows = select(database, "SELECT id FROM key_groups WHERE name = ?", name) if is_name(name) else []
    if not rows:
        raise GatewayError(400, f"There is no group named {str(name)[:40]!r}.", param="group")
    group_id: str = rows[0][0]
    return group_id


def _check_names(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not all(map(is_name, value)):
        raise GatewayError(400, f"{name!r} is a list of at least one name, or null for all of them.", param=name)
    return value


def _as_json(texts: set[str]) -> str:
    return json.dumps(sorted(texts))


def is_name(text: Any) -> bool:
    """Return whether ``text`` can be the name of a key or of a model."""
    return isinstance(text, str) and bool(text.strip()) and text.isprintable() and len(text) <= MAX_NAME_LENGTH
