"""A stream of events for an answer that came in one piece."""

from collections.abc import Iterator
from typing import Any

from floway_core.protocol import jsontext, sse


def events_of(response: dict[str, Any]) -> Iterator[bytes]:
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
        yield event("response.output_item.added", output_index=index, item=_begun(item))
        for kind, content in _parts(item):
            yield event(kind, item_id=item.get("id", ""), output_index=index, **content)
        yield event("response.output_item.done", output_index=index, item=item)
    terminal = f"response.{status}" if status in ("completed", "incomplete", "failed") else "response.completed"
    yield event(terminal, response={**response, "status": terminal.removeprefix("response.")})


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    empty = {"content": []} if item.get("type") == "message" else {"arguments": ""} if "arguments" in item else {}
    return {**item, **empty, **({"status": "in_progress"} if "status" in item else {})}


def _parts(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events between the beginning and the end of an item."""
    if item.get("type") == "function_call":
        arguments = item.get("arguments", "")
        yield "response.function_call_arguments.delta", {"delta": arguments}
        yield "response.function_call_arguments.done", {"arguments": arguments, "name": item.get("name", "")}
    if item.get("type") == "message" and isinstance(item.get("content"), list):
        for place, part in enumerate(item["content"]):
            at = {"content_index": place}
            if part.get("type") == "output_text":
                yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
                yield "response.output_text.delta", {**at, "delta": part.get("text", ""), "logprobs": []}
                yield "response.output_text.done", {**at, "text": part.get("text", ""), "logprobs": []}
            else:
                yield "response.content_part.added", {**at, "part": part}
            yield "response.content_part.done", {**at, "part": part}
