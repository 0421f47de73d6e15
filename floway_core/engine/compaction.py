"""Compaction for upstreams that have none of their own: the model is asked for a summary.

The summary travels in a compaction item like everybody else's. Its ``encrypted_content`` holds the items that take the
place of the history, in plain sight: it hides nothing, it only keeps to the form that clients pass on unread.
"""

import base64
import binascii
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from floway_core.conversation.records import History
from floway_core.protocol import jsontext
from floway_core.protocol.accumulator import ResponseAccumulator
from floway_core.protocol.items import TRIGGER
from floway_core.protocol.responses import COMPLETED, FAILED
from floway_core.protocol.synthesis import synthesize_events

MARK = "floway1."
"""How an ``encrypted_content`` of the gateway begins."""

REQUEST = """\
Stop here and write a handover for the assistant that will take over this conversation. It will see nothing but your \
handover. State what the user wants and has decided, what has been done and found so far (files, commands, results, \
names, numbers that are still needed), what is left to do, and what to watch out for. Be complete and brief. Write the \
handover only; do not call tools."""

LEAD_IN = "The conversation so far was replaced by this handover from the assistant that led it:\n\n"


def is_requested(given: History) -> bool:
    """Whether the input asks for a compaction."""
    return TRIGGER in given.kinds


def summary_request(body: dict[str, Any]) -> dict[str, Any]:
    """The request that asks a model for a summary instead of asking the upstream for a compaction."""
    ask = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": REQUEST}]}
    kept = [item for item in body["input"] if item.get("type") != TRIGGER]
    dropped = ("tools", "tool_choice", "parallel_tool_calls", "text")
    return {**{name: value for name, value in body.items() if name not in dropped}, "input": [*kept, ask]}


def as_compaction(blocks: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """The events of an answer that holds a summary, turned into those of a compaction, or of a failure without one.

    :param blocks: events, and None when a keep-alive is due.
    """
    events = ResponseAccumulator({}, rewrite=False)
    for block in blocks:
        if block is None:
            yield None
        events.add_events(block or b"")
        if events.terminal or events.failure or events.saw_done:
            break  # nothing that comes after a failure makes a summary whole
    response = events.response
    if events.terminal == FAILED:
        yield from synthesize_events({**response, "output": []})
    elif events.terminal == COMPLETED and (summary := _text_of(response["output"])):
        yield from synthesize_events({**response, "output": [_item(summary)]})
    else:  # an incomplete summary would lose what it has not come to
        yield events.fail("upstream_disconnected", "The model gave no complete summary.")


def _text_of(output: Iterable[dict[str, Any]]) -> str:
    parts = [
        part["text"]
        for item in output
        if item.get("type") == "message" and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return "\n".join(parts).strip()


def _item(summary: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": LEAD_IN + summary}]
    packed = jsontext.dumps([{"type": "message", "role": "user", "content": content}])
    blob = MARK + base64.urlsafe_b64encode(packed).decode()
    return {"id": f"cmp_{uuid.uuid4().hex}", "type": "compaction", "encrypted_content": blob}


def expand(given: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The items with the gateway's own compactions replaced by what they hold; those of upstreams admission."""
    for item in given:
        inside = _inside(item) if item.get("type") == "compaction" else None
        if inside is None:
            yield item
        else:
            yield from inside


def _inside(compaction: dict[str, Any]) -> list[dict[str, Any]] | None:
    blob = compaction.get("encrypted_content")
    if not isinstance(blob, str) or not blob.startswith(MARK):
        return None
    try:
        inside = jsontext.loads(base64.urlsafe_b64decode(blob.removeprefix(MARK)))
    except (ValueError, binascii.Error):
        return None
    return inside if isinstance(inside, list) and all(isinstance(item, dict) for item in inside) else None
