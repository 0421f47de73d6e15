"""JSON as bytes: fast where it can be, forgiving where clients need it."""

import json
import math
from typing import Any

import orjson

MOST_LEVELS = 254
"""Levels of nesting that orjson writes. With as many, nobody who goes down comes near the recursion limit."""


def loads(data: bytes) -> Any:
    """Parse UTF-8 JSON.

    Lone surrogates (``"\\ud83d"``, which JavaScript clients write when they cut a text inside an emoji) are accepted.

    :raises ValueError: not JSON, not UTF-8, or nested in more than ``MOST_LEVELS`` levels.
    """
    value = _parsed(data)
    if len(data) > 2 * MOST_LEVELS and is_too_deep(value):  # each level takes two brackets
        raise ValueError("nested too deeply")
    return value


def deep_copy(value: Any) -> Any:
    """A copy of ``value`` that shares nothing with it.

    :raises ValueError: as ``dumps``.
    """
    return _parsed(dumps(value))


def loads_many(texts: list[bytes]) -> list[Any]:
    """What ``loads`` makes of each of ``texts``, which it has accepted before: at once, if they allow it."""
    try:
        return orjson.loads(b"[%s]" % b",".join(texts))
    except orjson.JSONDecodeError:  # one of them has something that orjson alone refuses
        return [_parsed(text) for text in texts]


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in data:
            raise ValueError(str(error)) from None
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON.

    :raises ValueError: ``value`` is not JSON, or nested far too deeply.
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # also for what orjson alone refuses: lone surrogates, large integers, more than 254 levels
        pass
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


def canonical(value: Any) -> bytes:
    """JSON with sorted keys: equal values give equal bytes.

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
    """Compact JSON with everything beyond printable ASCII escaped, fit for a header."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        return _ASCII.encode(value)
    return text if text.isascii() and text.isprintable() else _ASCII.encode(value)


_ASCII = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _integer(digits: str) -> int | float:
    """As orjson has it: beyond 64 bits it becomes a float."""
    number = int(digits) if len(digits) <= 20 else 2**64
    return number if -(2**63) <= number < 2**64 else _finite(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects are nested in more than ``MOST_LEVELS`` levels."""
    try:
        orjson.dumps(value)
    except TypeError:  # too deep, or something else that orjson alone refuses
        level = [value]
        for _ in range(MOST_LEVELS):
            inner = (
                part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)
            )
            level = [part for parts in inner for part in parts]
        return any(isinstance(part, dict | list) for part in level)
    return False
