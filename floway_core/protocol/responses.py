"""The response object: its terminal events, and its recognition in a JSON body."""

import time
from collections.abc import Mapping
from typing import Any

from floway_core.protocol.usage import complete_usage

CREATED = "response.created"
COMPLETED, INCOMPLETE, FAILED = "response.completed", "response.incomplete", "response.failed"
SUCCESSFUL = (COMPLETED, INCOMPLETE)
TERMINAL = (*SUCCESSFUL, FAILED)

TERMINAL_TYPES = {
    COMPLETED: COMPLETED,
    INCOMPLETE: INCOMPLETE,
    FAILED: FAILED,
    "response.done": COMPLETED,
    "response.cancelled": FAILED,
    "response.canceled": FAILED,
}
"""The terminal events that upstreams send, and the standard type of each."""

TERMINAL_TYPE_OF_STATUS = {"incomplete": INCOMPLETE, "failed": FAILED, "cancelled": FAILED, "canceled": FAILED}
"""The terminal event for a final response, by its status."""

TERMINAL_EVENT_OF_STATUS = {"incomplete": INCOMPLETE, "failed": FAILED, "cancelled": "response.cancelled"}
"""The event that ends the stream of a background response, by its status; ``response.completed`` for others."""

FINAL_STATUSES = (None, "completed", "incomplete")
"""Statuses of a complete response that was not streamed."""


def blank_response(model: str) -> dict[str, Any]:
    """Build a response object for a stream that failed before the upstream sent one."""
    return {
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def apply_overrides(response: dict[str, Any], overrides: Mapping[str, Any]) -> bool:
    """Set the gateway's fields of a response object, and complete its ``usage``.

    :param overrides: their values. One of None adds no field that is missing.
    :returns: whether anything but the ``id`` has changed.
    """
    has_changed = False
    for name, value in overrides.items():
        old = response.get(name)
        if value is not None or old:
            has_changed |= name != "id" and (old != value)
            response[name] = value
    if (usage := response.get("usage")) is not None:
        response["usage"] = complete = complete_usage(usage)
        has_changed |= complete is not usage and complete != usage
    return has_changed


def has_error(response: dict[str, Any]) -> bool:
    """Return whether a response object reports an error. Some upstreams always send an object full of nulls."""
    error = response.get("error")
    return any(value is not None for value in error.values()) if isinstance(error, dict) else bool(error)


def is_final_response(value: Any) -> bool:
    """Return whether a JSON value is a complete response object without an error.

    Later code relies on this check: ``output`` is a list or absent, and the parts of its items are objects.
    """
    if not isinstance(value, dict) or has_error(value):
        return False
    status, output = value.get("status"), value.get("output")
    if isinstance(status, str) and status not in FINAL_STATUSES:
        return False
    if output is None:
        return value.get("object") == "response"
    return isinstance(output, list) and all(map(_has_object_parts, output))


def _has_object_parts(item: Any) -> bool:
    parts = item.get("content") if isinstance(item, dict) else [None]
    return not isinstance(parts, list) or all(isinstance(part, dict) for part in parts)
