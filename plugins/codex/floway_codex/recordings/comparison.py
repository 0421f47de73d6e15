"""What differs between two profiles, in lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON = Mapping[str, Any]


def compare_profiles(old: JSON, new: JSON) -> list[str]:
    """The differences of ``new`` from ``old`` (the JSON of profiles), one a line."""
    return [line for name in new for line in _compare(name, old.get(name), new[name]) if name != "version"]


def _compare(name: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(new, dict) and isinstance(old, dict):
        for key in {**old, **new}:
            yield from _compare(f"{name} {key}", old.get(key), new.get(key))
    elif _is_rows(new) and _is_rows(old):
        yield from _compare_rows(name, old, new)
    else:
        yield f"{name}: {_format_value(new)} instead of {_format_value(old)}"


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) for row in value)


def _compare_rows(name: str, old: Sequence[Sequence[Any]], new: Sequence[Sequence[Any]]) -> Iterator[str]:
    before, after = ({row[0]: list(row[1:]) for row in rows} for rows in (old, new))
    yield from (f"{name}: no {key}" for key in before if key not in after)
    for key in after:
        if key not in before:
            yield f"{name}: {key} is new: {_format_value(after[key])}"
        elif before[key] != after[key]:
            yield f"{name}: {key}: {_format_value(after[key])} instead of {_format_value(before[key])}"
    common = [key for key in before if key in after]
    order = [key for key in after if key in before]
    if common != order:
        yield f"{name}: another order: {', '.join(order)}"


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join(map(json.dumps, value)) or "what the client sends"
    return json.dumps(value)
