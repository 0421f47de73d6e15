"""Parse and serialise JSON as bytes: with orjson if possible, else with the standard library, which accepts more."""

import json
import math
from typing import Any

import orjson

MAX_LEVELS = 254
"""Levels of nesting that orjson serialises. A recursive function stays far from Python's recursion limit."""


COUNTED_BYTES = 16 * 1024
"""The brackets of texts that are shorter than this are counted."""

SERIALISED_BYTES = 256 * 1024
"""Values whose texts are shorter than this are serialised to see whether they are nested too deeply. This takes less
time than to look at each of them. A longer text often has an image and few values."""


def loads(data: bytes) -> Any:
    r"""Parse UTF-8 JSON.

    Lone surrogates (``"\ud83d"``) are accepted: JavaScript clients send them when they cut a text inside an emoji.

    :raises ValueError: not JSON, not UTF-8, or nested in more than ``MAX_LEVELS`` levels.
    """
    value = _parse(data)
    if may_be_too_deep(data) and is_too_deep(value, len(data)):
        raise ValueError("nested too deeply")
    return value


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
    """Return whether JSON texts may have more than ``MAX_LEVELS`` levels, judging by their length and their brackets.

    Most texts have few brackets. It stops as early as possible, because counting all of them takes half as long as
    parsing the text.
    """
    if len(text) <= 2 * MAX_LEVELS:
        return False
    if len(text) < COUNTED_BYTES:
        # Removing a character takes a fifth of the time of counting it, as long as there are few.
        return len(text) - len(text.replace(b"[", b"").replace(b"{", b"")) > MAX_LEVELS
    return len(text) < SERIALISED_BYTES or _has_many_brackets(text)


def _has_many_brackets(text: bytes) -> bool:
    found = 0
    for bracket in (b"[", b"{"):
        position = text.find(bracket)
        while position >= 0:
            found += 1
            if found > MAX_LEVELS:
                return True
            position = text.find(bracket, position + 1)
    return False


def is_too_deep(value: Any, length: int = 0) -> bool:
    """Return whether lists and objects are nested in more than ``MAX_LEVELS`` levels.

    :param length: bytes of the JSON text.
    """
    if length < SERIALISED_BYTES:
        try:
            orjson.dumps(value)
            return False  # orjson has the same limit
        except TypeError:  # too deep, or something else that orjson does not accept
            pass
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_LEVELS):
        if not level:
            return False
        inner = (part.values() if type(part) is dict else part for part in level)
        level = [part for parts in inner for part in parts if type(part) in _CONTAINERS]
    return bool(level)


_CONTAINERS = frozenset({dict, list})
