"""A stream of events for an answer that came in one piece."""

from collections.abc import Iterator
from typing import Any

from floway_core.protocol import jsontext, sse


def synthesize_events(response: dict[str, Any]) -> Iterator[bytes]:
    """The events that a client which streams expects before it gets ``response``.

    :param response: a complete response object. One without a status counts as completed.
    """
    number = 0

    def event(kind: str, **content: Any) -> bytes:
        nonlocal number
        number += 1
        return sse.encode(kind, jsontext.dumps({"type": kind, "sequence_number": number - 1, **content}))

    status = response.get("status") or "completed"
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(response.get("output") or []):
        for kind, content in item_events(item, index):
            yield event(kind, **content)
    terminal = f"response.{status}" if status in ("completed", "incomplete", "failed") else "response.completed"
    yield event(terminal, response={**response, "status": terminal.removeprefix("response.")})


def item_events(item: dict[str, Any], index: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Type and content of the events that announce, fill and close an item, in this order."""
    yield "response.output_item.added", {"output_index": index, "item": _begun(item)}
    for kind, content in _parts(item):
        yield kind, {"item_id": item.get("id", ""), "output_index": index, **content}
    yield "response.output_item.done", {"output_index": index, "item": item}


Told = Iterator[tuple[str, dict[str, Any]]]
"""Types of events, and what stands in them besides the place of the item."""


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    """``item`` before anything of it has been told."""
    filled, _ = _TOLD.get(str(item.get("type")), _IN_ONE_PIECE)
    empty = {name: "" if isinstance(item[name], str) else [] for name in filled if name in item}
    return {**item, **empty, **({"status": "in_progress"} if "status" in item else {})}


def _parts(item: dict[str, Any]) -> Told:
    """The events between the beginning and the end of an item."""
    _, told = _TOLD.get(str(item.get("type")), _IN_ONE_PIECE)
    return told(item)


def _function_call(item: dict[str, Any]) -> Told:
    arguments = item.get("arguments", "")
    yield "response.function_call_arguments.delta", {"delta": arguments}
    yield "response.function_call_arguments.done", {"arguments": arguments, "name": item.get("name", "")}


def _custom_tool_call(item: dict[str, Any]) -> Told:
    yield "response.custom_tool_call_input.delta", {"delta": item.get("input", "")}
    yield "response.custom_tool_call_input.done", {"input": item.get("input", "")}


def _message(item: dict[str, Any]) -> Told:
    for place, part in _objects(item.get("content")):
        at, text = {"content_index": place}, part.get("text", "")
        if part.get("type") == "output_text":
            yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
            yield "response.output_text.delta", {**at, "delta": text, "logprobs": []}
            yield "response.output_text.done", {**at, "text": text, "logprobs": []}
        else:
            yield "response.content_part.added", {**at, "part": part}
        yield "response.content_part.done", {**at, "part": part}


def _reasoning(item: dict[str, Any]) -> Told:
    for place, part in _objects(item.get("summary")):
        at, text = {"summary_index": place}, part.get("text", "")
        yield "response.reasoning_summary_part.added", {**at, "part": {**part, "text": ""}}
        yield "response.reasoning_summary_text.delta", {**at, "delta": text}
        yield "response.reasoning_summary_text.done", {**at, "text": text}
        yield "response.reasoning_summary_part.done", {**at, "part": part}
    for place, part in _objects(item.get("content")):
        at, text = {"content_index": place}, part.get("text", "")
        yield "response.reasoning_text.delta", {**at, "delta": text}
        yield "response.reasoning_text.done", {**at, "text": text}


def _objects(parts: Any) -> list[tuple[int, dict[str, Any]]]:
    """The objects in a list, with their places in it."""
    given = enumerate(parts if isinstance(parts, list) else [])
    return [(place, part) for place, part in given if isinstance(part, dict)]


_TOLD = {
    "message": (("content",), _message),
    "reasoning": (("summary", "content"), _reasoning),
    "function_call": (("arguments",), _function_call),
    "custom_tool_call": (("input",), _custom_tool_call),
}
"""For each type of item that is told in parts the fields that they fill, and the events that tell them."""
_IN_ONE_PIECE = ((), lambda item: iter(()))
