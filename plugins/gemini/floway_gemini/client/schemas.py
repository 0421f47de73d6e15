"""From Google's schemas, a dialect of OpenAPI 3.0, to JSON Schema."""

from collections.abc import Mapping
from typing import Any

from floway_gemini.fields import find

Schema = dict[str, Any]

TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_COPIED = ("title", "description", "format", "pattern", "enum", "minimum", "maximum", "default", "required")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_NAMED = {"properties": "properties", "defs": "$defs", "$defs": "$defs"}
"""Fields with schemas by name: their names in JSON Schema."""

MAX_DEPTH = 100
"""Levels of schemas in each other; deeper ones are left out."""


def to_json_schema(schema: Any, depth: int = 0) -> Any:
    """Convert a schema. What is none, or is JSON Schema already, stays what it is.

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
        converted["type"] = [one.lower() if isinstance(one, str) else one for one in kind]
    converted |= {name: schema[name] for name in _COPIED if schema.get(name) is not None}
    converted |= {name: _count(value) for name in _COUNTS if (value := find(schema, name)) is not None}
    if converted.get("format") == "enum":  # Google's mark of a string with an enum
        del converted["format"]
    for name, target in _NAMED.items():
        if isinstance(named := schema.get(name), dict):
            converted[target] = _in_order(named, find(schema, "propertyOrdering"), depth)
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(several := find(schema, name), list):
            converted[name] = [to_json_schema(one, depth + 1) for one in several]
    for name in ("items", "additionalProperties"):
        if (inner := find(schema, name)) is not None:
            converted[name] = to_json_schema(inner, depth + 1)
    if isinstance(reference := schema.get("$ref") or schema.get("ref"), str):
        converted["$ref"] = reference.replace("#/defs/", "#/$defs/")
    return _nullable(converted) if find(schema, "nullable") is True else converted


def close_objects(schema: Any) -> Any:
    """Return a schema for answers: its objects allow no properties that they do not list, as with Google's models."""
    if isinstance(schema, list):
        return [close_objects(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        name: {key: close_objects(one) for key, one in value.items()}
        if name in _NAMED and isinstance(value, dict)
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


def _in_order(named: Mapping[str, Any], order: Any, depth: int) -> Schema:
    """Convert schemas by name, those first that ``propertyOrdering`` lists: models write properties in this order."""
    first = [name for name in order if isinstance(name, str) and name in named] if isinstance(order, list) else []
    return {name: to_json_schema(named[name], depth + 1) for name in dict.fromkeys([*first, *named])}


def _count(value: Any) -> Any:
    """Return a count, which Google writes as a string because it has 64 bits."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else value


def _nullable(schema: Schema) -> Schema:
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}
