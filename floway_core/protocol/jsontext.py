"""JSON as bytes: fast where it can be, forgiving where clients need it."""

import json
from typing import Any

import orjson


def loads(data: bytes) -> Any:
    """Parse UTF-8 JSON.

    Lone surrogates (``"\\ud83d"``, which JavaScript clients write when they cut a text inside an emoji) are accepted.

    :raises ValueError: not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in data:
            raise ValueError(str(error)) from None
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON.

    :raises ValueError: ``value`` is nested too deeply or is not JSON.
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
    """Compact JSON with everything beyond ASCII escaped, fit for a header."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
