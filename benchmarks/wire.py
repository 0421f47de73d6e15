"""What the fake upstream writes and the load generator expects.

The text of a request's input contains the order, which every gateway passes on:
``bench:deltas=200,every=10000,fault=;`` asks for 200 deltas, 10,000 µs apart. Every delta carries its number and the
time at which it was written, in nanoseconds of the monotonic clock, which shows losses and delays.
"""

import functools
import json
import re
from dataclasses import dataclass
from typing import Any

MODEL = "bench"
STAMP = 18
"""Digits of a time stamp."""
ID = 32
"""Hexadecimal digits that the ids of a response and of its item end in."""

FAULTS = ("lost", "doubled", "swapped", "altered", "text", "unfinished", "cut")
"""Faults that the fake upstream can make, to test their detection. ``text`` concerns the full text only,
``unfinished`` leaves the terminal event out, and ``cut`` ends the connection instead."""

_ORDER = re.compile(rb"bench:deltas=(\d+),every=(\d+),fault=(\w*);")
_ID, _TEXT, _COUNT = "@" * ID, "@text@", 777_000_777


@dataclass(frozen=True)
class Order:
    """What one request orders."""

    deltas: int
    every: int = 0
    """Microseconds between two events; 0: as fast as they are read."""
    fault: str = ""
    """One of ``FAULTS``."""

    def __str__(self) -> str:
        return f"bench:deltas={self.deltas},every={self.every},fault={self.fault};"


def find_order(body: bytes) -> Order:
    """The last order in a request body: earlier ones belong to the conversation.

    :raises ValueError: there is none.
    """
    match = _ORDER.match(body, max(0, body.rfind(b"bench:deltas=")))
    if match is None:
        raise ValueError("the request has no order")
    return Order(int(match[1]), int(match[2]), match[3].decode())


# --------------------------------------------------------------------------------------------------------------- deltas
DELTA_TAIL = b' ","logprobs":[],"obfuscation":"XmQ2vLr9"}\n\n'


@functools.cache
def label(number: int) -> bytes:
    """Return the beginning of delta ``number``, before its time stamp and a space."""
    return b"t%06d." % number


@functools.cache
def delta_parts(number: int) -> tuple[bytes, bytes]:
    """The event of delta ``number`` is ``head ID middle STAMP DELTA_TAIL``; these are head and middle."""
    head = (
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d,'
        b'"item_id":"msg_' % (number + len(OPENING))
    )
    return head, b'","output_index":0,"content_index":0,"delta":"' + label(number)


def full_text(numbers: range | list[int], stamps: list[bytes]) -> bytes:
    """Return the concatenated text of deltas."""
    return b"".join([b"%b%b " % (label(number), stamp) for number, stamp in zip(numbers, stamps, strict=True)])


# ----------------------------------------------------------------------------------------------- everything around them
OPENING = (
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
)
DELTA = "response.output_text.delta"
CLOSING = (
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
)


def event_types(deltas: int) -> list[str]:
    """The types of all events of a stream, in order."""
    return [*OPENING, *[DELTA] * deltas, *CLOSING]


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _item(status: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"msg_{_ID}", "type": "message", "status": status, "content": list(parts), "role": "assistant"}


def _response(status: str, *output: dict[str, Any]) -> dict[str, Any]:
    details = {
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    return {
        "id": f"resp_{_ID}",
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": MODEL,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {"input_tokens": 75, "output_tokens": _COUNT, "total_tokens": _COUNT, **details} if output else None,
        "user": None,
        "metadata": {},
    }


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _event(type: str, number: int, **content: Any) -> bytes:
    return f"event: {type}\ndata: {_json({'type': type, 'sequence_number': number, **content})}\n\n".encode()


@functools.cache
def _opening() -> list[bytes]:
    created, going, added, part = OPENING
    position = {"item_id": f"msg_{_ID}", "output_index": 0, "content_index": 0}
    return [
        _event(created, 0, response=_response("in_progress")),
        _event(going, 1, response=_response("in_progress")),
        _event(added, 2, output_index=0, item=_item("in_progress")),
        _event(part, 3, **position, part=_part("")),
    ]


@functools.cache
def _closing(deltas: int) -> list[bytes]:
    text, part, item, completed = CLOSING
    position = {"item_id": f"msg_{_ID}", "output_index": 0, "content_index": 0}
    done, first = _item("completed", _part(_TEXT)), len(OPENING) + deltas
    events = [
        _event(text, first, **position, text=_TEXT, logprobs=[]),
        _event(part, first + 1, **position, part=_part(_TEXT)),
        _event(item, first + 2, output_index=0, item=done),
        _event(completed, first + 3, response=_response("completed", done)),
    ]
    return [event.replace(b"%d" % _COUNT, b"%d" % deltas) for event in events]


@functools.cache
def _whole(deltas: int) -> bytes:
    answer = _json(_response("completed", _item("completed", _part(_TEXT))))
    return answer.encode().replace(b"%d" % _COUNT, b"%d" % deltas)


def opening_events(id: bytes) -> list[bytes]:
    """The events before the deltas; ``id`` has ``ID`` digits."""
    return [event.replace(_ID.encode(), id) for event in _opening()]


def closing_events(id: bytes, deltas: int, text: bytes) -> list[bytes]:
    """The events after ``deltas`` deltas that add up to ``text``."""
    return [event.replace(_ID.encode(), id).replace(_TEXT.encode(), text) for event in _closing(deltas)]


def whole_answer(id: bytes, deltas: int, text: bytes) -> bytes:
    """The response object, for a request that does not stream."""
    return _whole(deltas).replace(_ID.encode(), id).replace(_TEXT.encode(), text)
