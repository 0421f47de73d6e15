"""Convert JSON schemas for the Messages API, which accepts fewer keywords than the Responses API.

Source: the page "Structured outputs" of Anthropic's documentation, and ``transform_schema`` of its Python SDK, which
does the same for its own clients.
"""

from collections.abc import Mapping
from typing import Any

from floway_anthropic.blocks import encode_json

Schema = dict[str, Any]

UNSUPPORTED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)
"""Keywords that the upstream refuses. The model reads them in the description instead."""

FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
"""Formats of strings that the upstream accepts."""

_SCHEMA_OBJECTS = ("properties", "$defs", "definitions")
"""Keywords whose value is an object of schemas."""


def fit_schema(schema: Any) -> Any:
    """Return a schema that the upstream accepts: objects are closed, unsupported keywords move to the description."""
    if not isinstance(schema, dict):
        return schema
    unsupported = {name: value for name, value in schema.items() if _is_refused(name, value)}
    fitted = {_rename(name): _fit_value(name, value) for name, value in schema.items() if name not in unsupported}
    if schema.get("type") == "object" or isinstance(schema.get("properties"), dict):
        fitted["additionalProperties"] = False
    if unsupported:
        note = ", ".join(f"{name}: {encode_json(value)}" for name, value in unsupported.items())
        fitted["description"] = "\n\n".join(filter(None, (_description(schema), f"{{{note}}}")))
    return fitted


def _rename(name: str) -> str:
    return "anyOf" if name == "oneOf" else name


def _fit_value(name: str, value: Any) -> Any:
    if name in _SCHEMA_OBJECTS and isinstance(value, dict):
        return {key: fit_schema(schema) for key, schema in value.items()}
    if name in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
        return [fit_schema(schema) for schema in value]
    return fit_schema(value) if name == "items" else value


def _is_refused(name: str, value: Any) -> bool:
    if name == "format":
        return value not in FORMATS
    if name == "minItems":
        return value not in (0, 1)
    return name in UNSUPPORTED


def _description(schema: Mapping[str, Any]) -> str:
    description = schema.get("description")
    return description if isinstance(description, str) else ""
