"""A scripted reply as the backend's event sequence."""

import json
import secrets
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from .accounts import Account, rate_limits
from .replies import OutputItem, Reply
from .responses import ESCAPED, EventStream, Headers

JSON = Any

# item type -> (field that comes in deltas, name of its events)
CALLS = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}


def event_stream(step: Reply, body: JSON, headers: Headers, account: Account) -> EventStream:
    """The event stream of a reply. Its first event reports the account's limits; it does not count towards the events
    after which the stream is cut or hangs."""
    frames, first = [], ((step.event_delay, sse(rate_limits(account))),)
    for number, (delay, event) in enumerate(response_events(step, body, account)):
        frames.append((delay or step.event_delay, sse({**event, "sequence_number": number})))
    kinds = ",".join(item.body["type"] for item in step.items) or "(no items)"
    if step.hang_after is not None:
        return EventStream(
            (*first, *frames[: step.hang_after]), headers, "hang", f"200 {kinds} silent after {step.hang_after} events"
        )
    if step.cut_after is not None:
        return EventStream(
            (*first, *frames[: step.cut_after]),
            headers,
            "end" if step.clean_cut else "cut",
            f"200 {kinds} cut after {step.cut_after} events",
        )
    ending = "failed" if step.fail is not None else "incomplete" if step.incomplete else "completed"
    return EventStream((*first, *frames), headers, "end", f"200 {kinds} {ending}")


def sse(event: JSON) -> bytes:
    """One server-sent event."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode(errors=ESCAPED)


def response_events(step: Reply, body: JSON, account: Account) -> Iterator[tuple[float, JSON]]:
    """(the item's own delay in seconds, event) from response.created to the terminal event."""
    started = initial_response(body, account)
    yield 0, {"type": "response.created", "response": started}
    yield 0, {"type": "response.in_progress", "response": started}
    for index, item in enumerate(step.items):
        for event in item_events(item, index):
            yield item.delay, event
    output = [] if step.empty_output else [item.body for item in step.items]
    ended = {**started, "output": output, "usage": usage(step, body), "completed_at": int(time.time())}
    if step.fail is not None:
        failed = {**started, "status": "failed", "error": step.fail}
        yield 0, {"type": "response.failed", "response": failed}
    elif step.incomplete:
        details = {"reason": step.incomplete}
        yield (
            0,
            {
                "type": "response.incomplete",
                "response": {**ended, "status": "incomplete", "incomplete_details": details},
            },
        )
    else:
        yield 0, {"type": "response.completed", "response": {**ended, "status": "completed"}}


def item_events(item: OutputItem, index: int) -> Iterator[JSON]:
    """The events of one output item."""
    kind, body = item.body["type"], item.body
    if kind == "message":
        yield added_event({**body, "content": []}, index)
        yield from message_events(item, index)
    elif kind == "reasoning":
        yield added_event({**body, "summary": []}, index)
        yield from summary_events(item, index)
    elif kind in CALLS:
        yield added_event({**body, CALLS[kind][0]: ""}, index)
        yield from call_events(item, index)
    else:
        yield added_event(body, index)
    yield {"type": "response.output_item.done", "output_index": index, "item": body}


def added_event(body: JSON, index: int) -> JSON:
    """The item as it opens; reasoning and compaction items have no status."""
    opened = {**body, "status": "in_progress"} if "status" in body else body
    return {"type": "response.output_item.added", "output_index": index, "item": opened}


def message_events(item: OutputItem, index: int) -> Iterator[JSON]:
    """Content parts and their text."""
    for number, part in enumerate(item.body["content"]):
        at = {"item_id": item.body["id"], "output_index": index, "content_index": number}
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        for piece in split_text(part["text"], item.chunks):
            yield {
                "type": "response.output_text.delta",
                **at,
                "delta": piece,
                "logprobs": [],
                "obfuscation": secrets.token_hex(4),
            }
        yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": part}


def summary_events(item: OutputItem, index: int) -> Iterator[JSON]:
    """Summary parts and their text."""
    for number, part in enumerate(item.body["summary"]):
        at = {"item_id": item.body["id"], "output_index": index, "summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}}
        for piece in split_text(part["text"], item.chunks):
            yield {
                "type": "response.reasoning_summary_text.delta",
                **at,
                "delta": piece,
                "obfuscation": secrets.token_hex(4),
            }
        yield {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **at, "part": part}


def call_events(item: OutputItem, index: int) -> Iterator[JSON]:
    """The arguments of a function call, or the input of a custom tool call."""
    name, event = CALLS[item.body["type"]]
    at = {"item_id": item.body["id"], "output_index": index}
    for piece in split_text(item.body[name], item.chunks):
        yield {"type": f"response.{event}.delta", **at, "delta": piece, "obfuscation": secrets.token_hex(4)}
    yield {"type": f"response.{event}.done", **at, name: item.body[name]}


def split_text(text: str, count: int) -> list[str]:
    """Split a text into `count` parts of nearly equal length; fewer if it is shorter."""
    count = max(1, min(count, len(text)))
    edges = [len(text) * n // count for n in range(count + 1)]
    return [text[start:end] for start, end in pairwise(edges)]


def initial_response(body: JSON, account: Account) -> JSON:
    """The response object of the first event, with the settings of the request. It names the account's user."""
    reasoning, text = body.get("reasoning") or {}, body.get("text") or {}
    return {
        "id": f"resp_{secrets.token_hex(25)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": account.user_id,
        "service_tier": body.get("service_tier", "auto"),
        "store": False,
        "temperature": 1.0,
        "text": {"format": text.get("format", {"type": "text"}), "verbosity": text.get("verbosity", "medium")},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def usage(step: Reply, body: JSON) -> JSON:
    """Token counts: four characters per token; a scripted total_tokens is met exactly."""
    written = sum(len(json.dumps(item.body)) for item in step.items) // 4
    if step.total_tokens is None:
        received = max(1, len(json.dumps(body.get("input", []))) // 4)
    else:
        written = min(written, step.total_tokens)
        received = step.total_tokens - written
    thought = sum(item.body["type"] == "reasoning" for item in step.items) * 16
    return {
        "input_tokens": received,
        "input_tokens_details": {"cached_tokens": min(step.cached_tokens, received)},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": min(thought, written)},
        "total_tokens": received + written,
    }
