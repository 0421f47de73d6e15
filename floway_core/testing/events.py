"""Builders of Responses event streams: lists of encoded events that can be the chunks of a ``Reply``."""

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}

DONE = b"data: [DONE]\n\n"


def event(type: str, **content: Any) -> bytes:
    """Encode one event.

    :param content: further fields of its JSON object.
    """
    data = json.dumps({"type": type, **content}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {type}\ndata: {data}\n\n".encode()


def parse(stream: bytes) -> list[dict[str, Any]]:
    """Parse the JSON objects of all events in a stream, without comments and ``[DONE]``: the inverse of ``event``."""
    lines = [line.rstrip(b"\r") for line in stream.split(b"\n")]
    contents = [line.removeprefix(b"data:") for line in lines if line.startswith(b"data:")]
    return [json.loads(data) for data in contents if data.strip() != b"[DONE]"]


def renamed(stream: bytes, id: str = "resp_1") -> bytes:
    """Replace the gateway's id of the response in a stream by the upstream's.

    :param id: the upstream's id.
    """
    return re.sub(rb'"resp_[0-9a-f]{32}"', f'"{id}"'.encode(), stream)


def response(
    status: str = "in_progress", *, id: str = "resp_1", model: str = "model-1", **content: Any
) -> dict[str, Any]:
    """Build a response object.

    :param content: further fields.
    """
    return {
        "id": id,
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **content,
    }


def message_item(text: str, *, id: str = "msg_1") -> dict[str, Any]:
    """Build a completed message of the assistant."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def function_call_item(name: str, arguments: str, *, id: str = "fc_1", call_id: str = "call_1") -> dict[str, Any]:
    """Build a completed function call."""
    call = {"name": name, "arguments": arguments, "call_id": call_id}
    return {"id": id, "type": "function_call", "status": "completed", **call}


def items_stream(
    items: Sequence[dict[str, Any]], *, empty_output: bool = False, status: str = "completed", **envelope: Any
) -> list[bytes]:
    """Build a complete stream that announces and closes items one after the other, without deltas.

    :param empty_output: send an empty ``output`` in the terminal event, as some upstreams do.
    :param status: how the response ends: ``completed`` or ``incomplete``.
    :param envelope: fields of the response object, such as ``id`` and ``model``.
    """
    numbers = itertools.count(1)
    events = [event("response.created", sequence_number=0, response=response(**envelope))]
    for index, item in enumerate(items):
        started = {**item, "status": "in_progress"}
        for suffix, state in (("added", started), ("done", item)):
            position = {"sequence_number": next(numbers), "output_index": index}
            events.append(event(f"response.output_item.{suffix}", **position, item=state))
    return [*events, _ended(next(numbers), [] if empty_output else list(items), envelope, status)]


def calls_stream(calls: Sequence[dict[str, Any]], *, pieces: int = 3, **envelope: Any) -> list[bytes]:
    """Build a complete stream with function calls that are open at once: their arguments arrive by turns.

    :param calls: completed items, as of ``function_call_item``.
    :param pieces: number of deltas for the arguments of each call.
    :param envelope: fields of the response object, such as ``id`` and ``model``.
    """
    numbers = itertools.count()

    def numbered(kind: str, index: int, **content: Any) -> bytes:
        position = {"sequence_number": next(numbers), "output_index": index}
        return event(f"response.{kind}", **position, **content)

    def cut(text: str, number: int) -> str:
        return text[len(text) * number // pieces : len(text) * (number + 1) // pieces]

    started = [{**call, "status": "in_progress", "arguments": ""} for call in calls]
    kind, indexed = "function_call_arguments", list(enumerate(calls))
    return [
        event("response.created", sequence_number=next(numbers), response=response(**envelope)),
        *(numbered("output_item.added", index, item=call) for index, call in enumerate(started)),
        *(
            numbered(f"{kind}.delta", index, item_id=call["id"], delta=cut(call["arguments"], number))
            for number in range(pieces)
            for index, call in indexed
        ),
        *(numbered(f"{kind}.done", at, item_id=call["id"], arguments=call["arguments"]) for at, call in indexed),
        *(numbered("output_item.done", index, item=call) for index, call in indexed),
        _ended(next(numbers), list(calls), envelope),
    ]


def message_stream(
    text: str = "Hello there.", *, pieces: int = 3, empty_output: bool = False, **envelope: Any
) -> list[bytes]:
    """Build a complete stream with one message.

    :param pieces: number of deltas that carry ``text``.
    :param empty_output: send an empty ``output`` in the terminal event, as some upstreams do.
    :param envelope: fields of the response object, such as ``id`` and ``model``.
    """
    numbers = itertools.count()
    item = message_item(text)
    part = item["content"][0]
    position = {"item_id": item["id"], "output_index": 0, "content_index": 0}

    def numbered(type: str, **content: Any) -> bytes:
        return event(type, sequence_number=next(numbers), **content)

    cuts = [len(text) * number // pieces for number in range(pieces + 1)]
    return [
        numbered("response.created", response=response(**envelope)),
        numbered("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []}),
        numbered("response.content_part.added", **position, part={**part, "text": ""}),
        *(
            numbered("response.output_text.delta", **position, delta=text[start:end], logprobs=[])
            for start, end in itertools.pairwise(cuts)
        ),
        numbered("response.output_text.done", **position, text=text, logprobs=[]),
        numbered("response.content_part.done", **position, part=part),
        numbered("response.output_item.done", output_index=0, item=item),
        _ended(next(numbers), [] if empty_output else [item], envelope),
    ]


def failed_stream(code: str, message: str, **envelope: Any) -> list[bytes]:
    """Build a stream that ends with ``response.failed``.

    :param envelope: fields of the response object, such as ``id`` and ``model``.
    """
    failed = response("failed", error={"code": code, "message": message}, **envelope)
    return [
        event("response.created", sequence_number=0, response=response(**envelope)),
        event("response.failed", sequence_number=1, response=failed),
    ]


def _ended(number: int, output: list[dict[str, Any]], envelope: dict[str, Any], status: str = "completed") -> bytes:
    ended = response(status, **{"usage": USAGE, **envelope}, output=output)
    return event(f"response.{status}", sequence_number=number, response=ended)
