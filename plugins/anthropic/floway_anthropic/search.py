"""Convert web searches of upstreams between ``web_search_call`` items and blocks of the Messages API."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from floway_core.protocol import signatures

NAME = "web_search"
RESULT = "web_search_tool_result"
CALL = "web_search_call"
KIND = "search"
"""The kind of the signatures in the results."""

USE_PREFIX = "srvtoolu_"
_ITEM_PREFIX = "ws_"


def use_block(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``server_tool_use`` block for a search."""
    return {"type": "server_tool_use", "id": use_id(item), "name": NAME, "input": {"query": _query(item)}}


def use_id(item: Mapping[str, Any]) -> str:
    """Return the id of the block for a search. It contains the id of the item."""
    return USE_PREFIX + str(item.get("id") or "").removeprefix(_ITEM_PREFIX)


def result_block(item: Mapping[str, Any], citations: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the block with the results of a search.

    :param citations: ``url_citation`` annotations of the text after the search. They contain the titles, and the
        URLs if the item has no sources.
    """
    titles = {
        str(citation.get("url")): str(citation.get("title") or "") for citation in citations if citation.get("url")
    }
    sources = {str(source["url"]): str(source.get("title") or "") for source in _sources(item)} or titles
    signature = _encode_signature(item)
    results = [
        {
            "type": "web_search_result",
            "url": url,
            "title": title or titles.get(url) or urlsplit(url).netloc or url,
            "encrypted_content": signature if index == 0 else "",
            "page_age": None,
        }
        for index, (url, title) in enumerate(sources.items())
    ]
    content: Any = results
    if item.get("status") == "failed":
        content = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
    return {"type": RESULT, "tool_use_id": use_id(item), "content": content}


def has_titles(item: Mapping[str, Any]) -> bool:
    """Return whether the sources of a search have titles. Then the results can be sent before the citations arrive."""
    sources = _sources(item)
    return bool(sources) and all(source.get("title") for source in sources)


def citation(annotation: Mapping[str, Any], text: str) -> dict[str, Any] | None:
    """Convert an annotation of a text.

    :param text: the text so far.
    :returns: None if the annotation cites no page.
    """
    url = annotation.get("url")
    if annotation.get("type") != "url_citation" or not isinstance(url, str):
        return None
    start, end = annotation.get("start_index"), annotation.get("end_index")
    cited_text = text[start:end] if isinstance(start, int) and isinstance(end, int) and 0 <= start <= end else ""
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": str(annotation.get("title") or "") or None,
        "cited_text": cited_text[:150],
        "encrypted_index": "",
    }


# ---------------------------------------------------------------------------------------------- from a client's history
def to_item(block: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a ``server_tool_use`` block of a client's history. ``restore`` completes the item."""
    query = block.get("input", {}).get("query") if isinstance(block.get("input"), dict) else None
    action = {"type": "search", "query": query if isinstance(query, str) else ""}
    return {"type": CALL, "status": "completed", "action": action}


def restore(item: dict[str, Any] | None, block: Mapping[str, Any]) -> None:
    """Restore the item of a search from the signature in the block with its results.

    :param item: the item of ``to_item``; None if the client has dropped the block of the search.
    """
    content = block.get("content")
    first = content[0] if isinstance(content, list) and content else None
    signature = first.get("encrypted_content") if isinstance(first, dict) else None
    original = signatures.decode(KIND, signature)
    if item is None or not isinstance(original, dict) or not isinstance(original.get("action"), dict):
        return
    item["action"] = original["action"]
    if isinstance(original.get("id"), str):
        item["id"] = original["id"]


def _encode_signature(item: Mapping[str, Any]) -> str:
    """Return a signature with the fields of the item that the blocks do not show, for ``restore``."""
    return signatures.encode(KIND, {"id": item.get("id"), "action": item.get("action")})


def _query(item: Mapping[str, Any]) -> str:
    """Return the query of a search, or the URL of the page that it opened."""
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
