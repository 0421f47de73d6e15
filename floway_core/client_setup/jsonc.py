"""Setting values in a JSON file, whose comments and other content stay.

Parsing and writing it anew would lose the comments that many programs allow in their files. So the text is scanned for
the positions of its members, and only their text changes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_ATOM = re.compile(r"[^\s,\]}/]+")

INDENT = "  "


@dataclass
class _Value:
    """A value and its position in the text."""

    start: int
    end: int = 0
    """The position after its last character."""
    members: "dict[str, _Value] | None" = None
    """Those of an object."""
    ends_with_comma: bool = False
    elements: "list[_Value]" = field(default_factory=list)
    """What an object or array contains."""


def set_json_values(text: str, values: Mapping[tuple[str, ...], Any]) -> str:
    """Return ``text`` with ``values``.

    :param text: JSON, which may have comments; an empty one counts as ``{}``.
    :param values: by path: ``{("env", "NAME"): ...}``. Missing objects are added.
    :raises ValueError: ``text`` is not a JSON object, or there is no object where a path needs one.
    """
    text = text if text.strip() else "{}\n"
    for path, value in values.items():
        text = _set(text, path, value)
    return text


def _set(text: str, path: tuple[str, ...], value: Any) -> str:
    node = _parse(text)
    for depth, name in enumerate(path):
        if node.members is None:
            raise ValueError(f"{'.'.join(path[:depth]) or 'the file'} is not a JSON object")
        child = node.members.get(name)
        if child is None:
            for missing in reversed(path[depth + 1 :]):
                value = {missing: value}
            return _add_member(text, node, name, value, depth)
        node = child
    written = json.dumps(value, indent=INDENT, ensure_ascii=False).replace("\n", "\n" + INDENT * len(path))
    return text[: node.start] + written + text[node.end :]


def _add_member(text: str, node: _Value, name: str, value: Any, depth: int) -> str:
    """Add a member after the last one of an object."""
    indent = "\n" + INDENT * (depth + 1)
    written = json.dumps(value, indent=INDENT, ensure_ascii=False).replace("\n", indent)
    closing = node.end - 1
    head, tail = text[:closing].rstrip(), text[closing:]
    if node.elements and not node.ends_with_comma:
        last = node.elements[-1].end
        head = head[:last] + "," + head[last:]
    return f"{head}{indent}{json.dumps(name)}: {written}\n{INDENT * depth}{tail}"


# ------------------------------------------------------------------------------------------------------------ scanning
def _parse(text: str) -> _Value:
    value = _scan(text, _skip(text, 0))
    if _skip(text, value.end) != len(text):
        raise ValueError(f"unexpected text in line {_line(text, value.end)}")
    return value


def _skip(text: str, position: int) -> int:
    """Return the position after white space and comments."""
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _scan(text: str, start: int) -> _Value:
    character = text[start : start + 1]
    if character == "{" or character == "[":
        return _scan_container(text, start)
    match = (_STRING if character == '"' else _ATOM).match(text, start)
    try:
        if match:
            json.loads(match[0])
            return _Value(start, match.end())
    except ValueError:
        pass
    raise ValueError(f"a value is expected in line {_line(text, start)}")


def _scan_container(text: str, start: int) -> _Value:
    is_object = text[start] == "{"
    value = _Value(start, members={} if is_object else None)
    position = _skip(text, start + 1)
    while text[position : position + 1] not in ("}", "]"):
        name = ""
        if is_object:
            key = _scan(text, position)
            name = json.loads(text[position : key.end])
            colon = _skip(text, key.end)
            if text[colon : colon + 1] != ":" or not isinstance(name, str):
                raise ValueError(f"a member is expected in line {_line(text, position)}")
            position = _skip(text, colon + 1)
        child = _scan(text, position)
        value.elements.append(child)
        if value.members is not None:
            value.members[name] = child
        position = _skip(text, child.end)
        value.ends_with_comma = text[position : position + 1] == ","
        if value.ends_with_comma:
            position = _skip(text, position + 1)
        elif text[position : position + 1] not in ("}", "]"):
            raise ValueError(f"a comma or the end is expected in line {_line(text, position)}")
    if text[position] != ("}" if is_object else "]"):
        raise ValueError(f"a closing bracket is missing in line {_line(text, position)}")
    value.end = position + 1
    return value


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
