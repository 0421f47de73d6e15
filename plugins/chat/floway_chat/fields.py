"""Read the fields of a client's request; the errors have OpenAI's wording."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from floway_core.errors import GatewayError
from floway_core.protocol.request_schema import TYPE_NAMES

MAX_QUOTED = 64
"""Characters of a client's value that an error quotes."""


def refuse_missing(param: str) -> NoReturn:
    """Refuse a request without a field that it needs.

    :raises GatewayError: 400.
    """
    message = f"Missing required parameter: '{param}'."
    raise GatewayError(400, message, code="missing_required_parameter", param=param)


def refuse_unknown(param: str) -> NoReturn:
    """Refuse a field that does not exist.

    :raises GatewayError: 400.
    """
    raise GatewayError(400, f"Unknown parameter: '{param[:MAX_QUOTED]}'.", code="unknown_parameter", param=param)


def refuse_type(param: str, expected: str, value: Any) -> NoReturn:
    """Refuse a value of the wrong type.

    :param expected: the types that are allowed: "a string".
    :raises GatewayError: 400.
    """
    actual = TYPE_NAMES.get(type(value), "an object" if value is not None else "null")
    message = f"Invalid type for '{param}': expected {expected}, but got {actual} instead."
    raise GatewayError(400, message, code="invalid_type", param=param)


def refuse_value(param: str, value: Any, supported: Iterable[str]) -> NoReturn:
    """Refuse an unsupported value, or a missing field if the value is None.

    :raises GatewayError: 400.
    """
    if not isinstance(value, str):
        _refuse(param, "a string", value)
    *names, last = (f"'{name}'" for name in supported)
    values = f"{', '.join(names)}, and {last}" if names else last
    message = f"Invalid value: '{value[:MAX_QUOTED]}'. Supported values are: {values}."
    raise GatewayError(400, message, code="invalid_value", param=param)


def read_string(fields: Mapping[str, Any], name: str, path: str) -> str:
    """Return a field that must be a string and must not be missing.

    :param path: path of the object in the request.
    :raises GatewayError: 400.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        _refuse(f"{path}.{name}", "a string", value)
    return value


def read_object(fields: Mapping[str, Any], name: str, path: str) -> dict[str, Any]:
    """Return a field that must be an object and must not be missing.

    :param path: path of the object that has the field.
    :raises GatewayError: 400.
    """
    value = fields.get(name)
    if not isinstance(value, dict):
        _refuse(f"{path}.{name}", "an object", value)
    return value


def _refuse(param: str, expected: str, value: Any) -> NoReturn:
    if value is None:
        refuse_missing(param)
    refuse_type(param, expected, value)
