"""Answers of a scripted upstream with the Messages API."""

import itertools
import json

from floway_core.testing import Reply

JSON = [("content-type", "application/json")]
USAGE = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 75,
    "output_tokens": 1,
    "service_tier": "standard",
}


def event(kind, **fields):
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def say(text):
    return {"type": "text", "text": text}


def think(text, signature="c2lnbmVk"):
    return {"type": "thinking", "thinking": text, "signature": signature}


def call(name, arguments, id="toolu_1"):
    return {"type": "tool_use", "id": id, "name": name, "input": arguments}


def block_events(index, block, pieces=2):
    """The events of one block."""
    start, deltas = dict(block), []
    if block["type"] == "text":
        start["text"] = ""
        deltas = [{"type": "text_delta", "text": piece} for piece in split(block["text"], pieces)]
        deltas += [{"type": "citations_delta", "citation": one} for one in start.pop("citations", [])]
    elif block["type"] == "thinking":
        start |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(block["thinking"], pieces)]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] in ("tool_use", "server_tool_use"):
        start["input"] = {}
        text = json.dumps(block["input"], ensure_ascii=False)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *split(text, pieces)]]
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def split(text, pieces):
    cuts = [len(text) * number // pieces for number in range(pieces + 1)]
    return [text[start:end] for start, end in itertools.pairwise(cuts) if end > start]


def stop_reason_of(blocks):
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"


def whole(*blocks, stop_reason=None, usage=None, **fields):
    """A message in one piece."""
    return {
        "id": "msg_upstream",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": list(blocks),
        "stop_reason": stop_reason or stop_reason_of(blocks),
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 10, **(usage or {})},
        **fields,
    }


def events(*blocks, stop_reason=None, usage=None, final_usage=None, **fields):
    """The events of a message."""
    message = whole(*blocks, stop_reason=stop_reason, **fields)
    begun = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, **(usage or {})}}
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in message}
    return [
        event("message_start", message=begun),
        event("ping"),
        *(one for index, block in enumerate(blocks) for one in block_events(index, block)),
        event("message_delta", delta=delta, usage=final_usage or {"output_tokens": 10}),
        event("message_stop"),
    ]


def stream(*blocks, headers=(), **fields):
    """A streamed answer."""
    return Reply(events(*blocks, **fields), headers=[("content-type", "text/event-stream"), *headers])


def as_json(content, status=200, *headers):
    """An answer in one piece."""
    return Reply([json.dumps(content).encode()], status, [*JSON, *headers])


def error(status, kind, message, *headers):
    return as_json(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_u"}, status, *headers
    )


def model_list(*names):
    entries = [
        {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-01-01T00:00:00Z"}
        for name in names
    ]
    return as_json({"data": entries, "has_more": False, "first_id": names[0], "last_id": names[-1]})
