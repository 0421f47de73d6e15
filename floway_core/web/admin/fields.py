"""Reading what an admin request asks for."""

from collections.abc import Mapping
from typing import Any

from flask import request

from floway_core.errors import GatewayError
from floway_core.web.body import read_object

LARGEST_BODY = 64 * 1024
"""Bytes."""

NAMES = {str: "a string", int: "a whole number", bool: "a boolean", list: "an array", dict: "an object"}


def read_body() -> dict[str, Any]:
    """The JSON object that the running request carries.

    :raises GatewayError: 400, 413 or 415.
    """
    return read_object(request, LARGEST_BODY)


def checked(
    given: Mapping[str, Any], types: Mapping[str, type], required: str = "", within: str = ""
) -> dict[str, Any]:
    """``given`` with nothing but the fields in ``types``, each of its type; those that are null are left out.

    :param required: the field that may not be left out.
    :param within: what ``given`` is called in errors, with a dot behind, if it is not the body itself.
    :raises GatewayError: 400, naming the field.
    """
    for name, value in given.items():
        if name not in types:
            raise GatewayError(400, f"Unknown field: {name[:40]!r}.", param=within + name[:40], code="unknown_field")
        if value is not None and type(value) is not types[name]:
            message = f"Invalid type for '{within}{name}': expected {NAMES[types[name]]}."
            raise GatewayError(400, message, param=within + name, code="invalid_type")
    if required and given.get(required) is None:
        message = f"Missing required field: '{within}{required}'."
        raise GatewayError(400, message, param=within + required, code="missing_required_field")
    return {name: value for name, value in given.items() if value is not None}
