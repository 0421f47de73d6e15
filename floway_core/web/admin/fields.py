"""Read and check the bodies of admin requests."""

from collections.abc import Mapping
from typing import Any

from floway_core.errors import GatewayError
from floway_core.web import current_request
from floway_core.web.body import read_object

MAX_BODY_BYTES = 64 * 1024

TYPE_NAMES = {str: "a string", int: "a whole number", bool: "a boolean", list: "an array", dict: "an object"}


def read_body() -> dict[str, Any]:
    """Read the JSON object in the body of the current request.

    :raises GatewayError: 400, 413 or 415.
    """
    return read_object(current_request(), MAX_BODY_BYTES).content


def check_fields(
    fields: Mapping[str, Any], types: Mapping[str, type], required: str = "", prefix: str = ""
) -> dict[str, Any]:
    """Check the names and types of ``fields``. Return those that are not null.

    :param types: the allowed fields and their types.
    :param required: a field that may not be missing or null.
    :param prefix: the path of ``fields`` in the body, with a final dot, for errors; empty for the body itself.
    :raises GatewayError: 400, with the name of the field.
    """
    for name, value in fields.items():
        if name not in types:
            raise GatewayError(400, f"Unknown field: {name[:40]!r}.", param=prefix + name[:40], code="unknown_field")
        if value is not None and type(value) is not types[name]:
            message = f"Invalid type for '{prefix}{name}': expected {TYPE_NAMES[types[name]]}."
            raise GatewayError(400, message, param=prefix + name, code="invalid_type")
    if required and fields.get(required) is None:
        message = f"Missing required field: '{prefix}{required}'."
        raise GatewayError(400, message, param=prefix + required, code="missing_required_field")
    return {name: value for name, value in fields.items() if value is not None}
