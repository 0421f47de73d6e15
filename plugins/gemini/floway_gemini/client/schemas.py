"""Convert Google's schemas, a dialect of OpenAPI 3.0, to JSON Schema."""

from collections.abc import Mapping
from typing import Any

from floway_gemini.fields import find

Schema = dict[str, Any]

TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_COPIED = ("title", "description", "format", "pattern", "enum", "minimum", "maximum", "default", "required")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_SCHEMA_OBJECTS = {"properties": "properties", "defs": "$defs", "$defs": "$defs"}
"""Fields whose value is an object of schemas: their names in JSON Schema."""

MAX_DEPTH = 100
"""Levels of nested schemas. Deeper ones are dropped."""


def to_json_schema(schema: Any, depth: int = 0) -> Any:
    """Convert a schema. JSON Schema, and values that are not schemas, stay unchanged.

    The names of properties are the client's own, in any spelling.
    """
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return schema if isinstance(schema, bool) else {}
    converted: Schema = {}
    kind = find(schema, "type")
    if isinstance(kind, str):
        converted["type"] = kind.lower() if kind.upper() in TYPES else kind
        if kind.upper() == "TYPE_UNSPECIFIED":
            del converted["type"]
    elif isinstance(kind, list):
        converted["type"] = [name.lower() if isinstance(name, str) else name for name in kind]
    converted |= {name: schema[name] for name in _COPIED if schema.get(name) is not None}
    converted |= {name: _count(value) for name in _COUNTS if (value := find(schema, name)) is not None}
    if converted.get("format") == "enum":  # Google's mark of a string with an enum
        del converted["format"]
    for name, target in _SCHEMA_OBJECTS.items():
        if isinstance(schemas := schema.get(name), dict):
            converted[target] = _in_order(schemas, find(schema, "propertyOrdering"), depth)
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(schemas := find(schema, name), list):
            converted[name] = [to_json_schema(inner, depth + 1) for inner in schemas]
    for name in ("items", "additionalProperties"):
        if (inner := find(schema, name)) is not None:
            converted[name] = to_json_schema(inner, depth + 1)
    if isinstance(reference := schema.get("$ref") or schema.get("ref"), str):
        converted["$ref"] = reference.replace("#/defs/", "#/$defs/")
    return _nullable(converted) if find(schema, "nullable") is True else converted


def close_objects(schema: Any) -> Any:
    """Return a schema for answers. Its objects allow only the properties that they list, as with Google's models."""
    if isinstance(schema, list):
        return [close_objects(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        name: {key: close_objects(inner) for key, inner in value.items()}
        if name in _SCHEMA_OBJECTS and isinstance(value, dict)
        else value
        for name, value in schema.items()
        if name != "default"
    }
    for name in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
        if name in closed:
            closed[name] = close_objects(closed[name])
    if closed.get("type") == "object" and isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


def _in_order(schemas: Mapping[str, Any], order: Any, depth: int) -> Schema:
    """Convert an object of schemas, in the order of ``propertyOrdering``: models write properties in this order."""
    first = [name for name in order if isinstance(name, str) and name in schemas] if isinstance(order, list) else []
    return {name: to_json_schema(schemas[name], depth + 1) for name in dict.fromkeys([*first, *schemas])}


def _count(value: Any) -> Any:
    """Return a count. Google writes it as a string because it has 64 bits."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else value


def _nullable(schema: Schema) -> Schema:
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}
