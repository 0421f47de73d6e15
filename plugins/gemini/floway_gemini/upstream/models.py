"""Parse the model list of an upstream with the generateContent API."""

from typing import Any

from floway_core.errors import NoModelList
from floway_core.protocol import jsontext
from floway_core.provider import Model

PAGE_SIZE = 1000
MAX_PAGES = 10
PREFIX = "models/"


def parse_page(content: bytes, upstream: str) -> tuple[list[Model], str | None]:
    """Parse one page of the list. Entries without a name, and models that cannot generate content, are dropped.

    :param upstream: the subject of an error message.
    :returns: the models, and the token of the next page; None for the last one.
    :raises NoModelList: the content is not a page of models.
    """
    try:
        page = jsontext.loads(content)
        entries = page["models"]
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise NoModelList(upstream, 200)
    models = [_parse_model(entry) for entry in entries if isinstance(entry, dict) and _generates(entry)]
    token = page.get("nextPageToken")
    return models, token if isinstance(token, str) and token else None


def _generates(entry: dict[str, Any]) -> bool:
    methods = entry.get("supportedGenerationMethods")
    is_named = isinstance(entry.get("name"), str) and bool(entry["name"].removeprefix(PREFIX))
    return is_named and (not isinstance(methods, list) or "generateContent" in methods)


def _parse_model(entry: dict[str, Any]) -> Model:
    return Model(entry["name"].removeprefix(PREFIX), "google", 0, details=entry)
