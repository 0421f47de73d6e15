"""How servers with Chat Completions differ: the table ``quirks.toml``."""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

DEFAULT = "default"


@dataclass(frozen=True)
class Quirks:
    """One table of ``quirks.toml``, which explains the fields."""

    name: str
    hosts: tuple[str, ...]
    owners: tuple[str, ...]
    max_tokens: str
    instructions: str
    fields: tuple[str, ...]
    unsupported: tuple[str, ...]
    efforts: tuple[str, ...]
    effort: Mapping[str, Mapping[str, Any]]
    reasoning: str
    json_schema: bool
    custom_tools: bool
    required: str

    def write_effort(self, effort: str) -> dict[str, Any]:
        """Return the request fields that set a reasoning effort."""
        effort = nearest_effort(effort, self.efforts)
        fields = self.effort.get(effort, self.effort["*"])
        return {name: _fill_in(value, effort) for name, value in fields.items()}


@functools.cache
def load_quirks() -> Mapping[str, Quirks]:
    """Return the quirks of all servers, by name."""
    tables = tomllib.loads(resources.files(__package__).joinpath("quirks.toml").read_text("utf-8"))
    return {name: _read_table(name, {**tables[DEFAULT], **table}) for name, table in tables.items()}


def find_quirks(base_url: str, owners: Iterable[str] = ()) -> Quirks:
    """Recognise a server: by its host, else by the owners of its models, else by its port.

    :param owners: the values of ``owned_by`` in its model list; empty if there is no list yet.
    """
    url, model_owners, tables = urlsplit(base_url), set(owners), load_quirks()
    host, port = url.hostname or "", f":{url.port}"
    for matches in (
        lambda quirks: any(host == name or (name[0] == "." and host.endswith(name)) for name in quirks.hosts),
        lambda quirks: model_owners.intersection(quirks.owners),
        lambda quirks: port in quirks.hosts,
    ):
        if match := next(filter(matches, tables.values()), None):
            return match
    return tables[DEFAULT]


def nearest_effort(effort: str, levels: tuple[str, ...]) -> str:
    """Return the nearest of ``levels``: the lowest that is at least as high, else the highest.

    An unknown effort is returned unchanged: the upstream reports what is wrong with it.
    """
    order = load_quirks()[DEFAULT].efforts
    if effort in levels or effort not in order:
        return effort
    return next((level for level in levels if order.index(level) >= order.index(effort)), levels[-1])


def _read_table(name: str, table: Mapping[str, Any]) -> Quirks:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    assert values.keys() == {field.name for field in fields(Quirks)} - {"name"}
    return Quirks(name=name, **values)


def _fill_in(value: Any, effort: str) -> Any:
    if isinstance(value, dict):
        return {name: _fill_in(inner, effort) for name, inner in value.items()}
    return effort if value == "{effort}" else value
