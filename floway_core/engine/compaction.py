"""Compaction for upstreams that do not support it: the model writes a summary.

The summary is returned in a compaction item. Its ``encrypted_content`` contains the items that replace the history.
They are encoded, not encrypted: the field only has the form that clients send back without reading it.
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

BLOB_PREFIX = "floway1."
"""The start of every ``encrypted_content`` that the gateway creates."""

SUMMARY_PROMPT = """\
Stop here and write a handover for the assistant that will take over this conversation. It will see nothing but your \
handover. State what the user wants and has decided, what has been done and found so far (files, commands, results, \
names, numbers that are still needed), what is left to do, and what to watch out for. Be complete and brief. Write the \
handover only; do not call tools."""

LEAD_IN = "The conversation so far was replaced by this handover from the assistant that led it:\n\n"


def is_requested(history: History) -> bool:
    """Return whether the input asks for a compaction."""
    return TRIGGER in history.kinds


def summary_request(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request for a summary, instead of the request to compact."""
    prompt = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": SUMMARY_PROMPT}]}
    items = [item for item in body["input"] if item.get("type") != TRIGGER]
    dropped = ("tools", "tool_choice", "parallel_tool_calls", "text")
    return {**{name: value for name, value in body.items() if name not in dropped}, "input": [*items, prompt]}


class SummaryCompaction:
    """Converts the events of a summary to those of a compaction, or of a failure if there is no complete summary."""

    def __init__(self) -> None:
        self.events = ResponseAccumulator({}, rewrite=False)
        """The summary so far."""

    def feed(self, block: bytes) -> bytes:
        """Add complete events. Return ``b""`` until the summary has ended, then all events of the compaction."""
        self.events.add_events(block)
        if self.events.terminal or self.events.failure or self.events.saw_done:
            return self.end()  # after a failure, the summary cannot become complete
        return b""

    def end(self) -> bytes:
        """Return the events of the compaction: the upstream has ended its stream. Called once."""
        response = self.events.response
        if self.events.terminal == FAILED:
            return b"".join(synthesize_events({**response, "output": []}))
        if self.events.terminal == COMPLETED and (summary := _output_text(response["output"])):
            return b"".join(synthesize_events({**response, "output": [_compaction_item(summary)]}))
        # an incomplete summary would lose a part of the conversation
        return self.events.fail("upstream_disconnected", "The model did not complete its summary.")


def _output_text(output: Iterable[dict[str, Any]]) -> str:
    parts = [
        part["text"]
        for item in output
        if item.get("type") == "message" and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    return "\n".join(parts).strip()


def _compaction_item(summary: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": LEAD_IN + summary}]
    items = jsontext.dumps([{"type": "message", "role": "user", "content": content}])
    blob = BLOB_PREFIX + base64.urlsafe_b64encode(items).decode()
    return {"id": f"cmp_{uuid.uuid4().hex}", "type": "compaction", "encrypted_content": blob}


def expand(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Replace the compactions of the gateway by the items in them. Compactions of upstreams do not change."""
    for item in items:
        replacement = _decode(item) if item.get("type") == "compaction" else None
        if replacement is None:
            yield item
        else:
            yield from replacement


def _decode(compaction: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the items in a compaction; None if the gateway did not make it."""
    blob = compaction.get("encrypted_content")
    if not isinstance(blob, str) or not blob.startswith(BLOB_PREFIX):
        return None
    try:
        items = jsontext.loads(base64.urlsafe_b64decode(blob.removeprefix(BLOB_PREFIX)))
    except (ValueError, binascii.Error):
        return None
    return items if isinstance(items, list) and all(isinstance(item, dict) for item in items) else None
