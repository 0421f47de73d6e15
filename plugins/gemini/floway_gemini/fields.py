"""Read JSON objects of clients, which Google calls messages, in both spellings; the errors have Google's wording."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext

ROOT = "GenerateContentRequest"
MAX_QUOTED = 60
"""Characters of a value that an error quotes."""

_UPPER = re.compile(r"(?<=[a-z0-9])([A-Z])")


@functools.cache
def snake_case(name: str) -> str:
    """Return the other spelling of a name in camelCase, the one that errors use."""
    return _UPPER.sub(r"_\1", name).lower()


def find(fields: Mapping[str, Any], name: str) -> Any:
    """Return a field by its name in camelCase; its spelling may be either. None if it is missing."""
    value = fields.get(name)
    return fields.get(snake_case(name)) if value is None else value


def invalid_type(path: str, kind: str, value: Any) -> GatewayError:
    """Return the error for a value of the wrong type.

    :param path: of the field: ``contents[0].role``.
    :param kind: Google's name of the type, such as ``TYPE_STRING``.
    """
    quoted = jsontext.ascii_text(value)
    quoted = quoted if len(quoted) <= MAX_QUOTED else f"{quoted[:MAX_QUOTED]}..."
    return GatewayError(400, f"Invalid value at '{path}' ({kind}), {quoted}", param=path)


def invalid(path: str, message: str) -> GatewayError:
    """Return the error for a value that is not allowed.

    :param message: what is wrong, without the path.
    """
    return GatewayError(400, f"* {ROOT}.{path}: {message}", param=path)


class Message:
    """A JSON object of a client. Fields are named in camelCase; null counts as missing.

    Every method raises a ``GatewayError`` with status 400 and the path of the field if its value has the wrong type.
    """

    def __init__(self, fields: Any, path: str = "") -> None:
        """:param path: of the object in the request; empty for the whole request."""
        if not isinstance(fields, dict):
            raise invalid_type(path, "TYPE_MESSAGE", fields)
        self.fields: dict[str, Any] = fields
        self._path = path

    def path(self, name: str = "") -> str:
        """Return the path of a field, or of the object itself, for errors."""
        return ".".join(filter(None, (self._path, snake_case(name))))

    def get(self, name: str) -> Any:
        """Return the value of a field; None if it is missing."""
        return find(self.fields, name)

    def text(self, name: str) -> str | None:
        """Return a string."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid_type(self.path(name), "TYPE_STRING", value)
        return value

    def required_text(self, name: str) -> str:
        """Return a string that must not be missing or empty."""
        value = self.text(name)
        if not value:
            raise invalid(self.path(name), f"{snake_case(name)} is not specified")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean; False if it is missing."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid_type(self.path(name), "TYPE_BOOL", value)
        return bool(value)

    def number(self, name: str, minimum: float, maximum: float) -> float | None:
        """Return a number in a range. It may be written as a string."""
        value = self.get(name)
        if value is None:
            return None
        number = _parse_number(value)
        if number is None:
            raise invalid_type(self.path(name), "TYPE_FLOAT", value)
        if not minimum <= number <= maximum:
            raise invalid(self.path(name), f"{snake_case(name)} must be in the range [{minimum}, {maximum}].")
        return number

    def integer(self, name: str, minimum: int) -> int | None:
        """Return an integer. It may be written as a string."""
        value = self.get(name)
        if value is None:
            return None
        number = _parse_number(value)
        if number is None or number != int(number) or abs(number) >= 2**31:
            raise invalid_type(self.path(name), "TYPE_INT32", value)
        if number < minimum:
            raise invalid(self.path(name), f"{snake_case(name)} must be at least {minimum}.")
        return int(number)

    def message(self, name: str) -> "Message | None":
        """Return an object."""
        value = self.get(name)
        return None if value is None else Message(value, self.path(name))

    def messages(self, name: str) -> "list[Message]":
        """Return an array of objects; an empty one if it is missing."""
        return [Message(value, f"{self.path(name)}[{at}]") for at, value in enumerate(self._list(name))]

    def texts(self, name: str) -> list[str]:
        """Return an array of strings; an empty one if it is missing."""
        values = self._list(name)
        for at, value in enumerate(values):
            if not isinstance(value, str):
                raise invalid_type(f"{self.path(name)}[{at}]", "TYPE_STRING", value)
        return values

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """Return one of some words, in upper case as Google writes them."""
        value = self.text(name)
        if value is None:
            return None
        if value.upper() not in choices:
            raise invalid_type(self.path(name), "TYPE_ENUM", value)
        return value.upper()

    def _list(self, name: str) -> list[Any]:
        value = self.get(name)
        if value is not None and not isinstance(value, list):
            raise invalid_type(self.path(name), "TYPE_LIST", value)
        return value or []


def _parse_number(value: Any) -> float | None:
    """Return a number, or the number in a string; None if it is neither, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
