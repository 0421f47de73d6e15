"""Reasoning in chat messages: ``reasoning_content``, as of many servers, and ``reasoning_details``, as of OpenRouter.

OpenAI's own API has neither. Clients that do not know the fields ignore them. Others send them back with the message,
and the reasoning returns to the history.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from floway_chat.fields import refuse_type

TEXT_FIELDS = ("reasoning_content", "reasoning")
"""Fields of a message with the text of the reasoning, the preferred one first."""

ENCRYPTED, SUMMARY, TEXT = "reasoning.encrypted", "reasoning.summary", "reasoning.text"
"""Types of the entries of ``reasoning_details``."""

_VALUE_OF_TYPE = {ENCRYPTED: "data", SUMMARY: "summary", TEXT: "text"}
"""By type: the field with the content of an entry."""

FORMAT = "openai-responses-v1"
"""The value of ``format`` by which OpenRouter marks the reasoning of the Responses API."""


def item_text(item: Mapping[str, Any]) -> str:
    """Return the readable text of a reasoning item: its content, or else the summary."""
    for field in ("content", "summary"):
        parts = item.get(field)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if text := "\n\n".join(text for text in texts if isinstance(text, str) and text):
            return text
    return ""


def write_details(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write a reasoning item as entries of ``reasoning_details``."""
    values: list[tuple[str, Any]] = []
    for kind, field in ((SUMMARY, "summary"), (TEXT, "content")):
        parts = item.get(field)
        values += [(kind, part.get("text")) for part in parts or () if isinstance(part, dict)]
    values.append((ENCRYPTED, item.get("encrypted_content")))
    common = {"id": item.get("id"), "format": FORMAT}
    return [
        {"type": kind, _VALUE_OF_TYPE[kind]: value, **common, "index": index}
        for index, (kind, value) in enumerate((kind, value) for kind, value in values if isinstance(value, str))
    ]


def details_text(details: Any) -> str:
    """Return the readable text in ``reasoning_details``."""
    entries = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    values = [detail.get(_VALUE_OF_TYPE[kind]) for detail in entries if (kind := detail.get("type")) in (SUMMARY, TEXT)]
    return "".join(value for value in values if isinstance(value, str))


def read_reasoning(message: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """Read the reasoning of an assistant message, as Responses items.

    Entries of ``reasoning_details`` with the same id become one item. Without such entries, the text becomes an item.

    :param path: path of the message in the request.
    :raises GatewayError: 400, ``reasoning_details`` is not a list of objects.
    """
    details = message.get("reasoning_details")
    if details is None:
        text = next((value for name in TEXT_FIELDS if isinstance(value := message.get(name), str) and value), None)
        content = [{"type": "reasoning_text", "text": text}]
        return [{"type": "reasoning", "summary": [], "content": content}] if text else []
    if not isinstance(details, list) or not all(isinstance(detail, dict) for detail in details):
        refuse_type(f"{path}.reasoning_details", "an array of objects", details)
    return list(_items_of_details(details))


def _items_of_details(details: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    items: dict[Any, dict[str, Any]] = {}
    for detail in details:
        kind, item_id = detail.get("type"), detail.get("id")
        value = detail.get(_VALUE_OF_TYPE.get(kind, "")) if isinstance(kind, str) else None
        if not isinstance(value, str) or not isinstance(item_id, str | None):
            continue
        item = items.setdefault(item_id, {"type": "reasoning", "summary": []})
        if item_id:
            item["id"] = item_id
        if kind == ENCRYPTED:
            item["encrypted_content"] = value
        elif kind == SUMMARY:
            item["summary"].append({"type": "summary_text", "text": value})
        else:
            item.setdefault("content", []).append({"type": "reasoning_text", "text": value})
    yield from items.values()
