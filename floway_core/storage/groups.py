"""Groups of API keys, which share a budget: add, change, list and remove them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import peewee
from uuid6 import uuid7

from floway_core.errors import GatewayError
from floway_core.storage import budgets
from floway_core.storage.budget_options import BUDGET_OPTIONS, SpentUsd, budget_fields, to_budget_column, to_spent_usd
from floway_core.storage.db import execute, select, transaction
from floway_core.storage.key_options import is_name
from floway_core.storage.tables import KeyGroups


class GroupOptions(TypedDict, total=False):
    """What can be changed of a group. None resets a budget; an option that is missing stays unchanged."""

    name: str
    usd_per_day: float | None
    usd_per_month: float | None
    allows_unpriced: bool | None


@dataclass(frozen=True)
class GroupRow:
    """A group in a list. None means: no limit."""

    id: str
    name: str
    created_at: int
    """Unix time in seconds."""
    keys: list[str]
    """Names of its keys, revoked ones included."""
    usd_per_day: float | None
    usd_per_month: float | None
    allows_unpriced: bool
    spent: SpentUsd


def add(database: peewee.Database, name: str, options: GroupOptions | None = None) -> None:
    """Add a group without keys.

    :raises GatewayError: 400, the name or an option is invalid; 409, the name is in use.
    """
    row = {"id": f"group_{uuid7().hex}", "created_at": int(time.time())}
    columns = _to_columns({**(options or {}), "name": name})
    with transaction(database):
        try:
            KeyGroups.insert({**row, **columns}).execute(database)
        except peewee.IntegrityError:
            raise _taken(name) from None


def change(database: peewee.Database, name: str, options: GroupOptions) -> None:
    """Change a group, with effect from the next request. A group with a new name keeps its keys and its spending.

    :raises GatewayError: 400, an option is invalid; 404, there is no such group; 409, the new name is in use.
    """
    changes = _to_columns(options) or {"name": name}
    with transaction(database):
        try:
            if not KeyGroups.update(changes).where(KeyGroups.name == name).execute(database):
                raise unknown(name)
        except peewee.IntegrityError:
            raise _taken(str(changes["name"])) from None


def remove(database: peewee.Database, name: str) -> None:
    """Remove a group without keys.

    :raises GatewayError: 404, there is no such group; 409, it still has keys, which would lose their budget unnoticed.
    """
    row = find(database, name)
    with transaction(database):
        try:
            execute(database, "DELETE FROM key_groups WHERE id = ?", row.id)
        except peewee.IntegrityError:
            keys = ", ".join(map(repr, row.keys)) or "one that was added just now"
            message = f"The group {name!r} still has API keys: {keys}. Take them out of it first."
            raise GatewayError(409, message, param="name", code="group_in_use") from None
        execute(database, "DELETE FROM budget_spending WHERE holder_id = ?", row.id)


def all_rows(database: peewee.Database) -> list[GroupRow]:
    """Return all groups, by name."""
    with database.connection_context():
        rows = list(KeyGroups.select().order_by(KeyGroups.name).execute(database))
        spent = budgets.read(database, [row.id for row in rows])
        members: dict[str, list[str]] = {row.id: [] for row in rows}
        sql = "SELECT group_id, name FROM api_keys WHERE group_id IS NOT NULL AND deleted_at IS NULL ORDER BY name"
        for group_id, key in select(database, sql):
            members.setdefault(group_id, []).append(key)
    return [
        GroupRow(
            id=row.id,
            name=row.name,
            created_at=row.created_at,
            keys=members[row.id],
            **budget_fields(row),
            spent=to_spent_usd(spent.get(row.id, budgets.NOTHING)),
        )
        for row in rows
    ]


def find(database: peewee.Database, name: str) -> GroupRow:
    """Return the group with this name.

    :raises GatewayError: 404, there is none.
    """
    row = next((row for row in all_rows(database) if row.name == name), None)
    if row is None:
        raise unknown(name)
    return row


def unknown(name: str) -> GatewayError:
    """Return the error for a name that no group has."""
    return GatewayError(404, f"There is no group named {name[:40]!r}.", param="name")


def _taken(name: str) -> GatewayError:
    return GatewayError(409, f"There is already a group named {name!r}.", param="name")


def _to_columns(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options and convert them to the columns of the table.

    :raises GatewayError: 400, an option is invalid.
    """
    columns: dict[str, Any] = {}
    for option, value in options.items():
        if option == "name":
            if not is_name(value):
                message = f"The name of a group is a short printable text, unlike {str(value)[:40]!r}."
                raise GatewayError(400, message, param="name")
            columns["name"] = value
        elif option in BUDGET_OPTIONS:
            columns[BUDGET_OPTIONS[option]] = None if value is None else to_budget_column(option, value)
        else:
            raise GatewayError(400, f"{option[:40]!r} is not an option of a group.", param=option[:40])
    return columns
