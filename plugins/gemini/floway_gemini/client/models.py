"""Models in the form of the generateContent API, page by page."""

from collections.abc import Mapping, Sequence
from typing import Any

from floway_core.errors import GatewayError
from floway_core.provider import Model
from floway_gemini.fields import find, invalid_type

PREFIX = "models/"
DEFAULT_SIZE, MAX_SIZE = 50, 1000
METHODS = ("generateContent", "countTokens")
INPUT_LIMIT, OUTPUT_LIMIT = 1_048_576, 65_536
"""Token limits of models whose limits are unknown. They are large, so that no client refuses to send a request."""
_OWN_FIELDS = (
    "description",
    "inputTokenLimit",
    "outputTokenLimit",
    "thinking",
    "temperature",
    "maxTemperature",
    "topP",
    "topK",
)
"""Fields that only model lists of this API contain."""


def to_entry(model: Model) -> dict[str, Any]:
    """Convert a model."""
    details = model.details
    name = find(details, "displayName") or details.get("display_name")
    return {
        "name": f"{PREFIX}{model.id}",
        "version": str(details.get("version") or "001"),
        "displayName": name if isinstance(name, str) else model.id,
        "inputTokenLimit": INPUT_LIMIT,
        "outputTokenLimit": OUTPUT_LIMIT,
        **{field: details[field] for field in _OWN_FIELDS if field in details},
        "supportedGenerationMethods": list(METHODS),
    }


def to_page(query: Mapping[str, str], models: Sequence[Model]) -> dict[str, Any]:
    """Return the page of the list that the query selects with ``pageSize`` and ``pageToken``.

    :raises GatewayError: 400, the query is malformed.
    """
    size = _read_size(find(query, "pageSize"))
    start = _position([model.id for model in models], find(query, "pageToken"))
    page = models[start : start + size]
    next_page = {"nextPageToken": models[start + size].id} if start + size < len(models) else {}
    return {"models": list(map(to_entry, page)), **next_page}


def _read_size(value: str | None) -> int:
    if not value or value == "0":
        return DEFAULT_SIZE
    if not value.isascii() or not value.isdigit():
        raise invalid_type("page_size", "TYPE_INT32", value)
    return min(MAX_SIZE, int(value[:9]))


def _position(ids: Sequence[str], token: str | None) -> int:
    if not token:
        return 0
    if token not in ids:
        raise GatewayError(400, "Invalid value at 'page_token': The page token is not valid.", param="page_token")
    return ids.index(token)
