"""Model aliases: names that clients can request in place of other models, with overrides of request fields."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import peewee

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.storage import upstreams
from floway_core.storage.configuration import configuration_of
from floway_core.storage.db import select, transaction, write
from floway_core.storage.tables import Aliases

MAX_NAME_LENGTH = 100
MAX_TARGETS = 100

READ = "SELECT name, targets_json, effort, verbosity, service_tier FROM model_aliases"


@dataclass(frozen=True)
class Overrides:
    """The request fields that an alias overrides; None keeps the client's value."""

    effort: str | None = None
    """``reasoning.effort``"""
    verbosity: str | None = None
    """``text.verbosity``"""
    service_tier: str | None = None

    def applied_to(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a request body with the overrides."""
        changed = dict(body)
        for name, field, value in (("reasoning", "effort", self.effort), ("text", "verbosity", self.verbosity)):
            if value is not None:
                group = body.get(name)
                changed[name] = {**(group if isinstance(group, dict) else {}), field: value}
        if self.service_tier is not None:
            changed["service_tier"] = self.service_tier
        return changed


NO_OVERRIDES = Overrides()


class Target(NamedTuple):
    """A model of an alias."""

    model: str
    """A name that clients can request, but not another alias."""
    upstream_id: str | None = None
    """The only upstream to use; None for all that serve the model."""


class Alias(NamedTuple):
    """A name for other models."""

    name: str
    targets: tuple[Target, ...]
    """The preferred one first."""
    overrides: Overrides = NO_OVERRIDES


@dataclass(frozen=True)
class AliasRow:
    """An alias in a list."""

    name: str
    targets: list[dict[str, str | None]]
    """``{"model": ..., "upstream": name or None}``, the preferred one first."""
    effort: str | None
    verbosity: str | None
    service_tier: str | None


def read_with_upstreams(database: peewee.Database, name: str) -> tuple[Sequence[Upstream], Alias | None]:
    """Return all upstreams in the order in which they are tried, and the alias ``name`` if there is one.

    They are as they were when the request was authenticated, or newer.

    :param name: any text that a client sent.
    """
    configuration = configuration_of(database)
    rows = configuration.get(Upstream, lambda: upstreams.all_rows(database))
    by_name = configuration.get(Alias, lambda: {alias.name: alias for alias in all_aliases(database)})
    return rows, by_name.get(name)


def all_aliases(database: peewee.Database) -> list[Alias]:
    """Return all aliases, sorted by name."""
    return [_to_alias(row) for row in select(database, f"{READ} ORDER BY name")]


def all_rows(database: peewee.Database) -> list[AliasRow]:
    """Return all aliases for a list, sorted by name, without targets whose upstream has been removed."""
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
    """Return the alias with this name.

    :raises GatewayError: 404, there is none.
    """
    row = next((row for row in all_rows(database) if row.name == name), None)
    if row is None:
        raise _unknown(name)
    return row


def put(
    database: peewee.Database, name: str, targets: Sequence[tuple[str, str | None]], overrides: Overrides = NO_OVERRIDES
) -> None:
    """Store an alias; it replaces one with the same name.

    :param targets: (model, name of the upstream or None), the preferred one first.
    :raises GatewayError: 400, a value is invalid, or an upstream does not exist.
    """
    _check_name(name, "name")
    if not 1 <= len(targets) <= MAX_TARGETS:
        raise GatewayError(400, f"An alias has 1 to {MAX_TARGETS} targets.", param="targets")
    for field, value in asdict(overrides).items():
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,39}", value, re.ASCII):
            raise GatewayError(400, f"{field!r} is a word such as 'low', unlike {value[:40]!r}.", param=field)
    ids: dict[str | None, str | None] = {row.name: row.id for row in upstreams.all_rows(database)} | {None: None}
    rows = []
    for model, upstream in targets:
        _check_name(model, "targets")
        if upstream not in ids:
            raise GatewayError(400, f"There is no upstream named {upstream!r}.", param="targets")
        rows.append([model, ids[upstream]])
    row = {"targets_json": jsontext.dumps(rows).decode(), **asdict(overrides)}
    query = Aliases.insert(name=name, **row).on_conflict(conflict_target=[Aliases.name], update=row)
    with transaction(database):
        query.execute(database)


def remove(database: peewee.Database, name: str) -> None:
    """Delete an alias.

    :raises GatewayError: 404, there is none of this name.
    """
    if not write(database, "DELETE FROM model_aliases WHERE name = ? RETURNING 1", name):
        raise _unknown(name)


def _to_alias(row: tuple[Any, ...]) -> Alias:
    name, targets, *overrides = row
    return Alias(name, tuple(Target(*target) for target in jsontext.loads(targets.encode())), Overrides(*overrides))


def _check_name(name: str, param: str) -> None:
    if not _is_valid_name(name):
        raise GatewayError(400, f"The name of a model is a short printable text, unlike {name[:40]!r}.", param=param)


def _is_valid_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_LENGTH and text.isprintable() and text == text.strip()


def _unknown(name: str) -> GatewayError:
    return GatewayError(404, f"There is no alias named {name!r}.", param="name")
