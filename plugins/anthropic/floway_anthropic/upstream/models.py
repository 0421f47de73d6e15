"""Parse the model list of an upstream with the Messages API."""

from datetime import datetime
from typing import Any

from floway_core.errors import NoModelList
from floway_core.protocol import jsontext
from floway_core.provider import Model

PAGE_SIZE = 1000
MAX_PAGES = 10


def parse_page(content: bytes, upstream: str) -> tuple[list[Model], str | None]:
    """Parse one page of the list. Entries without an id are left out.

    :param upstream: the subject of an error message.
    :returns: the models, and the id after which the next page begins; None for the last page.
    :raises NoModelList: the content is not a page of models.
    """
    try:
        page = jsontext.loads(content)
        entries = page["data"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise NoModelList(upstream, 200)
    models = [_parse_model(entry) for entry in entries if isinstance(entry, dict) and _text(entry.get("id"))]
    last = page.get("last_id")
    return models, last if page.get("has_more") is True and isinstance(last, str) and last else None


def _parse_model(entry: dict[str, Any]) -> Model:
    # Servers that imitate the API often list their models in OpenAI's form.
    created_at = entry.get("created_at", entry.get("created"))
    return Model(entry["id"], _text(entry.get("owned_by")) or "anthropic", _unix_time(created_at), details=entry)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _unix_time(value: Any) -> int:
    """Return a time as Unix seconds: from a number, or from RFC 3339; 0 if it is neither."""
    if isinstance(value, int | float) and 0 <= value < 2**53:
        return int(value)
    try:
        return max(0, int(datetime.fromisoformat(_text(value)).timestamp()))
    except (ValueError, OverflowError):
        return 0
