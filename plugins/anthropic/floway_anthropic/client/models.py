"""Models in the form of the Messages API, page by page."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from floway_anthropic.client.values import invalid
from floway_core.provider import Model

DEFAULT_LIMIT, MAX_LIMIT = 20, 1000
_OWN_FIELDS = ("capabilities", "max_input_tokens", "max_tokens", "line", "lifecycle", "deprecated_at", "retires_at")
"""Fields that only model lists of the Messages API contain."""


def to_entry(model: Model) -> dict[str, Any]:
    """Convert a model."""
    details = model.details
    name = details.get("display_name")
    created_at = details.get("created_at") if isinstance(details.get("created_at"), str) else None
    return {
        "type": "model",
        "id": model.id,
        "display_name": name if isinstance(name, str) and name else model.id,
        "created_at": created_at or datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        **{field: details[field] for field in _OWN_FIELDS if field in details},
    }


def to_page(query: Mapping[str, str], models: Sequence[Model]) -> dict[str, Any]:
    """Return the page of the list that the query selects with ``limit``, ``after_id`` and ``before_id``.

    :raises GatewayError: 400, the query is malformed.
    """
    limit = _read_limit(query.get("limit"))
    ids = [model.id for model in models]
    start, end = 0, len(models)
    if query.get("after_id"):
        start = _position(ids, query["after_id"], "after_id") + 1
    if query.get("before_id"):
        end = _position(ids, query["before_id"], "before_id")
        start = max(start, end - limit)
    page = models[start : min(end, start + limit)]
    has_more = start > 0 if query.get("before_id") else start + len(page) < end
    return {
        "data": list(map(to_entry, page)),
        "has_more": has_more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def _read_limit(value: str | None) -> int:
    if value is None:
        return DEFAULT_LIMIT
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= MAX_LIMIT:
        raise invalid("limit", f"Input should be an integer from 1 to {MAX_LIMIT}.")
    return int(value)


def _position(ids: Sequence[str], model_id: str, path: str) -> int:
    if model_id not in ids:
        raise invalid(path, "There is no such model.")
    return ids.index(model_id)
