"""Build the events of an output item that was not streamed."""

from collections.abc import Callable, Iterator
from typing import Any


def item_events(item: dict[str, Any], index: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield type and content of the events that announce, fill and close an item, in this order."""
    yield "response.output_item.added", {"output_index": index, "item": _without_text(item)}
    _, part_events = _STREAMED.get(str(item.get("type")), _NOT_STREAMED)
    for event_type, content in part_events(item):
        yield event_type, {"item_id": item.get("id", ""), "output_index": index, **content}
    yield "response.output_item.done", {"output_index": index, "item": item}


PartEvents = Iterator[tuple[str, dict[str, Any]]]
"""Type of each event, and its content without the id and index of the item."""


def _without_text(item: dict[str, Any]) -> dict[str, Any]:
    """Return ``item`` for its announcement, before events fill it."""
    fields, _ = _STREAMED.get(str(item.get("type")), _NOT_STREAMED)
    empty = {name: "" if isinstance(item[name], str) else [] for name in fields if name in item}
    return {**item, **empty, **({"status": "in_progress"} if "status" in item else {})}


def _function_call(item: dict[str, Any]) -> PartEvents:
    arguments = item.get("arguments", "")
    yield "response.function_call_arguments.delta", {"delta": arguments}
    yield "response.function_call_arguments.done", {"arguments": arguments, "name": item.get("name", "")}


def _custom_tool_call(item: dict[str, Any]) -> PartEvents:
    yield "response.custom_tool_call_input.delta", {"delta": item.get("input", "")}
    yield "response.custom_tool_call_input.done", {"input": item.get("input", "")}


def _message(item: dict[str, Any]) -> PartEvents:
    for index, part in _enumerate_objects(item.get("content")):
        address, text = {"content_index": index}, part.get("text", "")
        if part.get("type") == "output_text":
            logprobs = part.get("logprobs") or []
            yield "response.content_part.added", {**address, "part": {**part, "text": ""}}
            yield "response.output_text.delta", {**address, "delta": text, "logprobs": logprobs}
            yield "response.output_text.done", {**address, "text": text, "logprobs": logprobs}
        else:
            yield "response.content_part.added", {**address, "part": part}
        yield "response.content_part.done", {**address, "part": part}


def _reasoning(item: dict[str, Any]) -> PartEvents:
    for index, part in _enumerate_objects(item.get("summary")):
        address, text = {"summary_index": index}, part.get("text", "")
        yield "response.reasoning_summary_part.added", {**address, "part": {**part, "text": ""}}
        yield "response.reasoning_summary_text.delta", {**address, "delta": text}
        yield "response.reasoning_summary_text.done", {**address, "text": text}
        yield "response.reasoning_summary_part.done", {**address, "part": part}
    for index, part in _enumerate_objects(item.get("content")):
        address, text = {"content_index": index}, part.get("text", "")
        yield "response.content_part.added", {**address, "part": {**part, "text": ""}}
        yield "response.reasoning_text.delta", {**address, "delta": text}
        yield "response.reasoning_text.done", {**address, "text": text}
        yield "response.content_part.done", {**address, "part": part}


def _enumerate_objects(parts: Any) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects in a list, each with its index."""
    if not isinstance(parts, list):
        return []
    return [(index, part) for index, part in enumerate(parts) if isinstance(part, dict)]


_STREAMED: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any]], PartEvents]]] = {
    "message": (("content",), _message),
    "reasoning": (("summary", "content"), _reasoning),
    "function_call": (("arguments",), _function_call),
    "custom_tool_call": (("input",), _custom_tool_call),
}
"""By type of item: the fields that events fill, and the function that builds these events."""

_NOT_STREAMED: tuple[tuple[str, ...], Callable[[dict[str, Any]], PartEvents]] = ((), lambda item: iter(()))
