"""Recognise strict JSON schemas, for which the Responses API has more rules than other APIs."""

from typing import Any


def is_strict(schema: Any) -> bool:
    """Return whether a schema fulfils the rules of the Responses API for strict ones.

    Every object lists all of its properties as required and allows no others. Other APIs have fewer rules.
    """
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        names = properties if isinstance(properties, dict) else {}
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return bool(not names and schema.get("additionalProperties") is False)
        if set(names) != {name for name in required if isinstance(name, str)}:
            return False
    return all(is_strict(value) for value in schema.values() if isinstance(value, dict | list))
