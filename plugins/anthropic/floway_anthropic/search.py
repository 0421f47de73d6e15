"""Web searches that an upstream makes: between its ``web_search_call`` items and the blocks of the Messages API."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from floway_core.protocol import signatures

NAME = "web_search"
RESULT = "web_search_tool_result"
CALL = "web_search_call"
KIND = "search"
"""The kind of the values that results carry for Floway."""

USE_PREFIX = "srvtoolu_"
_ITEM_PREFIX = "ws_"


def use_block(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block that shows a search: ``server_tool_use``."""
    return {"type": "server_tool_use", "id": use_id(item), "name": NAME, "input": {"query": _query(item)}}


def use_id(item: Mapping[str, Any]) -> str:
    """Return the id of the block for a search, which has the id of the item in it."""
    return USE_PREFIX + str(item.get("id") or "").removeprefix(_ITEM_PREFIX)


def result_block(item: Mapping[str, Any], citations: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the block with the results of a search.

    :param citations: ``url_citation`` annotations of the text that the search led to. They have the titles, and the
        URLs if the upstream does not name its sources.
    """
    titles = {str(one.get("url")): str(one.get("title") or "") for one in citations if one.get("url")}
    sources = {str(source["url"]): str(source.get("title") or "") for source in _sources(item)} or titles
    carried = _carry(item)
    results = [
        {
            "type": "web_search_result",
            "url": url,
            "title": title or titles.get(url) or urlsplit(url).netloc or url,
            "encrypted_content": carried if index == 0 else "",
            "page_age": None,
        }
        for index, (url, title) in enumerate(sources.items())
    ]
    content: Any = results
    if item.get("status") == "failed":
        content = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    return {"type": RESULT, "tool_use_id": use_id(item), "content": content}


def has_titles(item: Mapping[str, Any]) -> bool:
    """Return whether the sources of a search have titles, so that its results need not wait for the citations."""
    sources = _sources(item)
    return bool(sources) and all(source.get("title") for source in sources)


def citation(annotation: Mapping[str, Any], text: str) -> dict[str, Any] | None:
    """Convert an annotation of a text.

    :param text: the whole text, as far as it is known.
    :returns: None if the annotation cites no page.
    """
    url = annotation.get("url")
    if annotation.get("type") != "url_citation" or not isinstance(url, str):
        return None
    start, end = annotation.get("start_index"), annotation.get("end_index")
    cited = text[start:end] if isinstance(start, int) and isinstance(end, int) and 0 <= start <= end else ""
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": str(annotation.get("title") or "") or None,
        "cited_text": cited[:150],
        "encrypted_index": "",
    }


# --------------------------------------------------------------------------------------------------------- the way back
def to_item(block: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a ``server_tool_use`` block of a client's history. ``restore`` completes the item."""
    query = block.get("input", {}).get("query") if isinstance(block.get("input"), dict) else None
    action = {"type": "search", "query": query if isinstance(query, str) else ""}
    return {"type": CALL, "status": "completed", "action": action}


def restore(item: dict[str, Any] | None, block: Mapping[str, Any]) -> None:
    """Put what a block with results carries back into the item of its search.

    :param item: the item of ``to_item``; None if the client has dropped the block of the search.
    """
    content = block.get("content")
    first = content[0] if isinstance(content, list) and content else None
    carried = first.get("encrypted_content") if isinstance(first, dict) else None
    stored = signatures.decode(KIND, carried)
    if item is None or not isinstance(stored, dict) or not isinstance(stored.get("action"), dict):
        return
    item["action"] = stored["action"]
    if isinstance(stored.get("id"), str):
        item["id"] = stored["id"]


def _carry(item: Mapping[str, Any]) -> str:
    """Return what the item has and the blocks do not show, for ``restore``."""
    return signatures.encode(KIND, {"id": item.get("id"), "action": item.get("action")})


def _query(item: Mapping[str, Any]) -> str:
    """Return what a search was for: its query, or the page that it opened."""
    action = item.get("action")
    if not isinstance(action, dict):
        return ""
    queries = action.get("queries")
    first = queries[0] if isinstance(queries, list) and queries else None
    value = action.get("query") or first or action.get("url") or ""
    return value if isinstance(value, str) else ""


def _sources(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    action = item.get("action")
    sources = action.get("sources") if isinstance(action, dict) else None
    sources = sources if isinstance(sources, list) else []
    return [source for source in sources if isinstance(source, dict) and isinstance(source.get("url"), str)]
