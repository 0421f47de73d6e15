"""Convert web searches of upstreams between ``web_search_call`` items with citations and ``groundingMetadata``."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

CALL = "web_search_call"


def to_metadata(items: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the grounding metadata for the output items of a response; None if there was no web search.

    The segments count bytes in the joined texts of the answer, because clients join them.
    """
    queries: list[str] = []
    titles: dict[str, str] = {}
    supports: list[dict[str, Any]] = []
    has_searched, offset = False, 0
    for item in items:
        if item.get("type") == CALL:
            has_searched = True
            queries += _queries(item)
            for source in _sources(item):
                titles.setdefault(source["url"], str(source.get("title") or ""))
        for part in parts(item):
            text = part_text(part)
            for citation in _citations(part):
                titles[citation["url"]] = str(citation.get("title") or titles.get(citation["url"]) or "")
                supports += _supports(citation, text, offset)
            offset += _length(text)
    if not has_searched and not titles:
        return None
    positions = {url: at for at, url in enumerate(titles)}
    for support in supports:
        support["groundingChunkIndices"] = [positions[support.pop("url")]]
    return {
        "webSearchQueries": list(dict.fromkeys(queries)),
        "groundingChunks": [
            {"web": {"uri": url, "title": title or urlsplit(url).netloc or url}} for url, title in titles.items()
        ],
        "groundingSupports": supports,
    }


def parts(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a message."""
    content = item.get("content") if item.get("type") == "message" else None
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def part_text(part: Mapping[str, Any]) -> str:
    """Return the text of a part, which may be a refusal."""
    text = part.get("refusal") if part.get("type") == "refusal" else part.get("text")
    return text if isinstance(text, str) else ""


def _supports(citation: Mapping[str, Any], text: str, offset: int) -> list[dict[str, Any]]:
    start, end = citation.get("start_index"), citation.get("end_index")
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(text):
        return []
    segment = {
        "startIndex": offset + _length(text[:start]),
        "endIndex": offset + _length(text[:end]),
        "text": text[start:end],
    }
    return [{"segment": segment, "url": citation["url"]}]


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _citations(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = part.get("annotations")
    annotations = [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    return [value for value in annotations if value.get("type") == "url_citation" and isinstance(value.get("url"), str)]


def _action(item: Mapping[str, Any]) -> Mapping[str, Any]:
    action = item.get("action")
    return action if isinstance(action, dict) else {}


def _queries(item: Mapping[str, Any]) -> list[str]:
    several = _action(item).get("queries")
    queries = several if isinstance(several, list) and several else [_action(item).get("query")]
    return [query for query in queries if isinstance(query, str) and query]


def _sources(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    sources = _action(item).get("sources")
    pages = [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    return [page for page in pages if isinstance(page.get("url"), str)]


# --------------------------------------------------------------------------------------------------------- the way back
def read_sources(metadata: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return URL and title of the cited pages, in the order of ``groundingChunks``."""
    chunks = metadata.get("groundingChunks")
    pages = (
        [chunk.get("web") if isinstance(chunk, dict) else None for chunk in chunks] if isinstance(chunks, list) else []
    )
    sources = [page if isinstance(page, dict) else {} for page in pages]
    return [{"url": str(page.get("uri") or ""), "title": str(page.get("title") or "")} for page in sources]


def read_supports(metadata: Mapping[str, Any], text: str) -> list[tuple[int, int, int]]:
    """Return the citations of a text: start and end in characters, and the position of the source.

    :param text: the complete text; the upstream's positions count its bytes.
    """
    supports = metadata.get("groundingSupports")
    content = text.encode("utf-8", "surrogatepass")
    citations: list[tuple[int, int, int]] = []
    for support in supports if isinstance(supports, list) else ():
        segment = support.get("segment") if isinstance(support, dict) else None
        positions = support.get("groundingChunkIndices") if isinstance(support, dict) else None
        if not isinstance(segment, dict) or not isinstance(positions, list):
            continue
        start, end = segment.get("startIndex", 0), segment.get("endIndex")
        if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end <= len(content):
            continue
        first = len(content[:start].decode("utf-8", "replace"))
        last = len(content[:end].decode("utf-8", "replace"))
        citations += [(first, last, at) for at in positions if isinstance(at, int) and at >= 0]
    return citations
