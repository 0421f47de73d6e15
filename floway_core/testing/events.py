"""Builders of Responses event streams: lists of events as bytes, ready to be the chunks of a ``Reply``."""

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}

DONE = b"data: [DONE]\n\n"


def event(type: str, **content: Any) -> bytes:
    """One event; its data is ``content`` with ``type`` in front."""
    data = json.dumps({"type": type, **content}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {type}\ndata: {data}\n\n".encode()


def parse(stream: bytes) -> list[dict[str, Any]]:
    """The data of all events in ``stream``, without comments and ``[DONE]``; the inverse of ``event``."""
    lines = [line.rstrip(b"\r") for line in stream.split(b"\n")]
    told = [line.removeprefix(b"data:") for line in lines if line.startswith(b"data:")]
    return [json.loads(data) for data in told if data.strip() != b"[DONE]"]


def renamed(stream: bytes, id: str = "resp_1") -> bytes:
    """``stream`` with the id that the gateway gave the response replaced by ``id``, which the upstream gave it."""
    return re.sub(rb'"resp_[0-9a-f]{32}"', f'"{id}"'.encode(), stream)


def response(status: str = "in_progress", *, id: str = "resp_1", model: str = "model-1", **content: Any) -> dict:
    """A response object."""
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
    """A finished message of the assistant."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def function_call_item(name: str, arguments: str, *, id: str = "fc_1", call_id: str = "call_1") -> dict[str, Any]:
    """A finished function call."""
    call = {"name": name, "arguments": arguments, "call_id": call_id}
    return {"id": id, "type": "function_call", "status": "completed", **call}


def items_stream(items: Sequence[dict[str, Any]], *, empty_output: bool = False, **envelope: Any) -> list[bytes]:
    """A complete stream whose output is ``items``, which are announced and closed one after the other.

    :param empty_output: leave the output out of the terminal event, as some upstreams do.
    :param envelope: fields of the response object, such as ``id`` and ``model``.
    """
    numbers = itertools.count(1)
    events = [event("response.created", sequence_number=0, response=response(**envelope))]
    for index, item in enumerate(items):
        started = {**item, "status": "in_progress"}
        for kind, state in (("added", started), ("done", item)):
            place = {"sequence_number": next(numbers), "output_index": index}
            events.append(event(f"response.output_item.{kind}", **place, item=state))
    return [*events, _completed(next(numbers), [] if empty_output else list(items), envelope)]


def message_stream(
    text: str = "Hello there.", *, pieces: int = 3, empty_output: bool = False, **envelope: Any
) -> list[bytes]:
    """A complete stream that says ``text`` in ``pieces`` deltas.

    :param empty_output: leave the output out of the terminal event, as some upstreams do.
    :param envelope: fields of the response object, such as ``id`` and ``model``.
    """
    numbers = itertools.count()
    item = message_item(text)
    part = item["content"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}

    def numbered(type: str, **content: Any) -> bytes:
        return event(type, sequence_number=next(numbers), **content)

    cuts = [len(text) * number // pieces for number in range(pieces + 1)]
    return [
        numbered("response.created", response=response(**envelope)),
        numbered("response.output_item.added", output_index=0, item={**item, "status": "in_progress", "content": []}),
        numbered("response.content_part.added", **place, part={**part, "text": ""}),
        *(
            numbered("response.output_text.delta", **place, delta=text[start:end], logprobs=[])
            for start, end in itertools.pairwise(cuts)
        ),
        numbered("response.output_text.done", **place, text=text, logprobs=[]),
        numbered("response.content_part.done", **place, part=part),
        numbered("response.output_item.done", output_index=0, item=item),
        _completed(next(numbers), [] if empty_output else [item], envelope),
    ]


def failed_stream(code: str, message: str, **envelope: Any) -> list[bytes]:
    """A stream that the upstream itself ends in ``response.failed``."""
    failed = response("failed", error={"code": code, "message": message}, **envelope)
    return [
        event("response.created", sequence_number=0, response=response(**envelope)),
        event("response.failed", sequence_number=1, response=failed),
    ]


def _completed(number: int, output: list[dict[str, Any]], envelope: dict[str, Any]) -> bytes:
    told = response("completed", **{"usage": USAGE, **envelope}, output=output)
    return event("response.completed", sequence_number=number, response=told)
