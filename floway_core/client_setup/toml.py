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
    :raises ValueError: ``text`` is not TOML, there is no table where a path needs one, or a new one cannot be added.
    """
    try:
        document = tomlkit.parse(text)
        for path, value in values.items():
            _set(document, path, value)
        written = tomlkit.dumps(document)
        if tomlkit.parse(written).unwrap() != document.unwrap():  # it puts some dotted keys into the wrong table
            raise ValueError("its dotted keys leave no room for further ones")
        return written
    except TOMLKitError as error:
        raise ValueError(str(error)) from None


def _set(document: tomlkit.TOMLDocument, path: tuple[str, ...], value: Any) -> None:
    *parents, name = path
    table: Any = document
    for depth, parent in enumerate(parents):
        if parent not in table:
            if value is None:
                return
            is_inline, is_last = isinstance(table, InlineTable), depth == len(parents) - 1
            table[parent] = tomlkit.inline_table() if is_inline else tomlkit.table(is_super_table=not is_last)
        table = table[parent]
        if not isinstance(table, Table | InlineTable | tomlkit.container.OutOfOrderTableProxy):
            raise ValueError(f"{'.'.join(parents[: depth + 1])} is not a table")
    if value is None:
        table.pop(name, None)
    elif name not in table or table[name] != value:
        table[name] = value
