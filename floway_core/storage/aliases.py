"""Model aliases: names by which clients ask for other models, and what is asked of those in their place."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import peewee

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.storage import upstreams
from floway_core.storage.db import execute, select
from floway_core.storage.tables import Aliases

LONGEST_NAME = 100
MOST_TARGETS = 100

READ = "SELECT name, targets_json, effort, verbosity, service_tier FROM model_aliases"

# One statement for everything a request needs to be routed.
READ_WITH_UPSTREAMS = """
    SELECT upstreams.id, kind, upstreams.name, enabled, position, prefix,
           model_aliases.name, targets_json, effort, verbosity, service_tier
    FROM upstreams LEFT JOIN model_aliases ON model_aliases.name = ? ORDER BY position, upstreams.id
"""


@dataclass(frozen=True)
class Overrides:
    """What an alias asks of the model, whatever the client says; None leaves it to the client."""

    effort: str | None = None
    """``reasoning.effort``"""
    verbosity: str | None = None
    """``text.verbosity``"""
    service_tier: str | None = None

    def applied_to(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request body that asks for it."""
        changed = dict(body)
        for name, field, value in (("reasoning", "effort", self.effort), ("text", "verbosity", self.verbosity)):
            if value is not None:
                given = body.get(name)
                changed[name] = {**(given if isinstance(given, dict) else {}), field: value}
        if self.service_tier is not None:
            changed["service_tier"] = self.service_tier
        return changed


NO_OVERRIDES = Overrides()


@dataclass(frozen=True)
class Target:
    """A model that an alias stands for."""

    model: str
    """The name by which clients could ask for it. Never an alias: what has the name of a model means that model."""
    upstream_id: str | None = None
    """The only upstream that is asked for it; None for every one that serves it."""


@dataclass(frozen=True)
class Alias:
    """A name that stands for other models."""

    name: str
    targets: tuple[Target, ...]
    """The preferred one first."""
    overrides: Overrides = NO_OVERRIDES


@dataclass(frozen=True)
class AliasRow:
    """An alias as it is listed."""

    name: str
    targets: list[dict[str, str | None]]
    """``{"model": ..., "upstream": name or None}``, the preferred one first."""
    effort: str | None
    verbosity: str | None
    service_tier: str | None


def read_with_upstreams(database: peewee.Database, name: str) -> tuple[list[Upstream], Alias | None]:
    """All upstreams in the order in which they are tried, and the alias ``name`` if there is one.

    :param name: whatever a client sent.
    """
    rows = select(database, READ_WITH_UPSTREAMS, name if _can_be_name(name) else "")
    alias = _alias(rows[0][6:]) if rows and rows[0][6] is not None else None
    return [upstreams.from_row(row[:6]) for row in rows], alias


def all_aliases(database: peewee.Database) -> list[Alias]:
    """Every alias, by name."""
    return [_alias(row) for row in select(database, f"{READ} ORDER BY name")]


def all_rows(database: peewee.Database) -> list[AliasRow]:
    """Every alias as it is listed, by name. Targets whose upstream has been removed are left out."""
    names: dict[str | None, str | None] = {row.id: row.name for row in upstreams.all_rows(database)} | {None: None}
    return [
        AliasRow(
            name=alias.name,
            targets=[
                {"model": target.model, "upstream": names[target.upstream_id]}
                for target in alias.targets
                if target.upstream_id in names
            ],
            **asdict(alias.overrides),
        )
        for alias in all_aliases(database)
    ]


def find(database: peewee.Database, name: str) -> AliasRow:
    """The alias of this name as it is listed.

    :raises GatewayError: 404, there is none.
    """
    found = next((row for row in all_rows(database) if row.name == name), None)
    if found is None:
        raise _unknown(name)
    return found


def put(
    database: peewee.Database, name: str, targets: Sequence[tuple[str, str | None]], overrides: Overrides = NO_OVERRIDES
) -> None:
    """Store an alias, in place of what had this name before.

    :param targets: (model, name of the upstream or None), the preferred one first.
    :raises GatewayError: 400, something is unusable, such as an upstream that is not there.
    """
    _check_name(name, "name")
    if not 1 <= len(targets) <= MOST_TARGETS:
        raise GatewayError(400, f"An alias has 1 to {MOST_TARGETS} targets.", param="targets")
    for field, value in asdict(overrides).items():
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,39}", value, re.ASCII):
            raise GatewayError(400, f"{field!r} is a word such as 'low', unlike {value[:40]!r}.", param=field)
    ids: dict[str | None, str | None] = {row.name: row.id for row in upstreams.all_rows(database)} | {None: None}
    stored = []
    for model, upstream in targets:
        _check_name(model, "targets")
        if upstream not in ids:
            raise GatewayError(400, f"There is no upstream named {upstream!r}.", param="targets")
        stored.append([model, ids[upstream]])
    row = {"targets_json": jsontext.dumps(stored).decode(), **asdict(overrides)}
    query = Aliases.insert(name=name, **row).on_conflict(conflict_target=[Aliases.name], update=row)
    with database.connection_context():
        query.execute(database)


def remove(database: peewee.Database, name: str) -> None:
    """Forget an alias.

    :raises GatewayError: 404, there is none of this name.
    """
    with database.connection_context():
        if not execute(database, "DELETE FROM model_aliases WHERE name = ?", name).rowcount:
            raise _unknown(name)


def _alias(row: tuple[Any, ...]) -> Alias:
    name, targets, *overrides = row
    return Alias(name, tuple(Target(*target) for target in jsontext.loads(targets.encode())), Overrides(*overrides))


def _check_name(name: str, param: str) -> None:
    if not _can_be_name(name):
        raise GatewayError(400, f"The name of a model is a short printable text, unlike {name[:40]!r}.", param=param)


def _can_be_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable() and text == text.strip()


def _unknown(name: str) -> GatewayError:
    return GatewayError(404, f"There is no alias named {name!r}.", param="name")
