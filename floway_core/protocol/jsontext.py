"""Parse and serialise JSON as bytes: with orjson if possible, else with the standard library, which accepts more."""

import gc
import json
import math
from typing import Any, NamedTuple

import orjson

MAX_LEVELS = 254
"""Levels of nesting that orjson serialises. A recursive function stays far from Python's recursion limit."""


COUNTED_BYTES = 64 * 1024
"""The brackets of texts that are shorter than this are counted."""


class Size(NamedTuple):
    """How large a JSON value is, apart from its texts."""

    values: int
    """The number of values in it: objects, lists, texts, numbers and so on, itself included."""
    levels: int
    """Levels of nesting: 0 for a text, 1 for a list of texts. Not more than ``MAX_LEVELS + 1`` are counted."""


def loads(data: bytes) -> Any:
    r"""Parse UTF-8 JSON.

    Lone surrogates (``"\ud83d"``) are accepted: JavaScript clients send them when they cut a text inside an emoji.

    :raises ValueError: not JSON, not UTF-8, or nested in more than ``MAX_LEVELS`` levels.
    """
    value = _parse(data)
    if may_be_too_deep(data) and is_too_deep(value):
        raise ValueError("nested too deeply")
    return value


def loads_measured(data: bytes) -> tuple[Any, Size]:
    """Parse UTF-8 JSON as ``loads``; return the value and its size.

    :raises ValueError: as ``loads``.
    """
    value = _parse(data)
    size = measure(value)
    if size.levels > MAX_LEVELS:
        raise ValueError("nested too deeply")
    return value, size


def deep_copy(value: Any) -> Any:
    """Copy an object or a list with all objects and lists in it.

    Texts are shared, so that large ones cost nothing: a body with images is copied in microseconds, where parsing it
    again would take as long as the first time.

    :param value: nested in at most ``MAX_LEVELS`` levels, like all results of ``loads``.
    """
    copied = value.copy()
    if type(value) is dict:
        for key, part in value.items():
            kind = type(part)
            if kind is dict or kind is list:
                copied[key] = deep_copy(part) if part else kind()
    else:
        for position, part in enumerate(value):
            kind = type(part)
            if kind is dict or kind is list:
                copied[position] = deep_copy(part) if part else kind()
    return copied


def loads_many(texts: list[bytes]) -> list[Any]:
    """Parse many JSON texts at once.

    :param texts: each one that ``loads`` has accepted before.
    """
    try:
        values: list[Any] = orjson.loads(b"[%s]" % b",".join(texts))
        return values
    except orjson.JSONDecodeError:  # only the standard library accepts one of them
        return [_parse(text) for text in texts]


def _parse(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in data:
            raise ValueError(str(error)) from None
    try:
        return json.loads(data, parse_constant=_reject_constant, parse_float=_parse_float, parse_int=_parse_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    """Serialise to compact UTF-8 JSON.

    :raises ValueError: ``value`` is not JSON, or nested far too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # lone surrogates, large integers, more than 254 levels: try the standard library
        pass
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


def canonical(value: Any) -> bytes:
    """Serialise to JSON with sorted keys: equal values give equal bytes.

    :raises ValueError: as ``dumps``.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        pass
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode("ascii")
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


def ascii_text(value: Any) -> str:
    """Serialise to compact JSON in printable ASCII, for a header."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        return _ASCII.encode(value)
    # Control characters are escaped already, except for one.
    return text if text.isascii() and "\x7f" not in text else _ASCII.encode(value)


_ASCII = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_integer(digits: str) -> int | float:
    """Parse an integer as orjson does: beyond 64 bits it becomes a float."""
    number = int(digits) if len(digits) <= 20 else 2**64
    return number if -(2**63) <= number < 2**64 else _parse_float(digits)


def _parse_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def may_be_too_deep(text: bytes) -> bool:
    """Return whether JSON texts may have more than ``MAX_LEVELS`` levels: it depends on their length and brackets."""
    if len(text) <= 2 * MAX_LEVELS:
        return False
    if len(text) >= COUNTED_BYTES:
        return True
    # Removing a character takes a fifth of the time of counting it, as long as there are few.
    return len(text) - len(text.replace(b"[", b"").replace(b"{", b"")) > MAX_LEVELS


def is_too_deep(value: Any) -> bool:
    """Return whether lists and objects are nested in more than ``MAX_LEVELS`` levels."""
    return measure(value).levels > MAX_LEVELS


def measure(value: Any) -> Size:
    """Count the values and the levels of a JSON value.

    The garbage collector lists all parts of all values of a level in one call, which takes a tenth of the time of a
    loop. It lists the values of an object without its keys.
    """
    level, values = [value], 0
    for levels in range(MAX_LEVELS + 2):
        values += len(level)
        if not (parts := gc.get_referents(*level)):
            is_nested = not _CONTAINERS.isdisjoint(map(type, level))  # empty lists and objects
            return Size(values, levels + is_nested)
        level = parts
    return Size(values, MAX_LEVELS + 1)


_CONTAINERS = frozenset({dict, list})
