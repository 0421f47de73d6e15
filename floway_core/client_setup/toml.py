"""Setting values in a TOML file, whose comments and other content stay."""

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table


def set_toml_values(text: str, values: Mapping[tuple[str, ...], Any]) -> str:
    """Return ``text`` with ``values``.

    :param values: by path: ``{("servers", "mine", "url"): ...}``. A value of None removes the entry. Missing tables are
        added.
    :raises ValueError: ``text`` is no TOML, or there is no table where a path needs one.
    """
    try:
        document = tomlkit.parse(text)
        for path, value in values.items():
            _set(document, path, value)
        return tomlkit.dumps(document)
    except TOMLKitError as error:
        raise ValueError(str(error)) from None


def _set(document: tomlkit.TOMLDocument, path: tuple[str, ...], value: Any) -> None:
    *parents, name = path
    table: Any = document
    for depth, parent in enumerate(parents):
        if parent not in table:
            if value is None:
                return
            is_last = depth == len(parents) - 1
            table.add(parent, tomlkit.table(is_super_table=not is_last))
        table = table[parent]
        if not isinstance(table, Table | InlineTable | tomlkit.container.OutOfOrderTableProxy):
            raise ValueError(f"{'.'.join(parents[: depth + 1])} is no table")
    if value is None:
        table.pop(name, None)
    elif name not in table or table[name] != value:
        table[name] = value
