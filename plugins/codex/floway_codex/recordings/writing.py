"""Profiles as JSON text: one field on a line, so that versions can be compared."""

import json
from collections.abc import Mapping
from typing import Any


def format_profile(profile: Mapping[str, Any]) -> str:
    """The text of a profile's file."""
    sections = [f"  {json.dumps(name)}: {_section(value, '  ')}" for name, value in profile.items()]
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _section(value: Any, indent: str) -> str:
    if isinstance(value, list):
        rows = ",\n".join(f"{indent}  {json.dumps(row, ensure_ascii=False)}" for row in value)
        return f"[\n{rows}\n{indent}]" if rows else "[]"
    if isinstance(value, dict):
        pairs = [
            f"{indent}  {json.dumps(key)}: "
            + (json.dumps(item, ensure_ascii=False) if _is_short(item) else _section(item, f"{indent}  "))
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(pairs) + f"\n{indent}}}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False)


def _is_short(value: Any) -> bool:
    """Whether a value of an object fits on a line: a text, or the keys of an item."""
    return not isinstance(value, dict) and len(json.dumps(value)) <= 110
