"""Parse a block with one event of a known type in the usual form: most blocks of a stream are one further delta."""

from typing import Any

import orjson

from floway_core.protocol import jsontext, sse


def usual_beginning(event_type: str) -> bytes:
    """Return the bytes with which most upstreams begin an event: everything before its data."""
    return b"event: %b\ndata: " % event_type.encode("utf-8", "surrogatepass")


def parse_usual_event(block: bytes, beginning: bytes) -> dict[str, Any] | None:
    """Parse a block that is a single event with one line of data.

    :param block: complete events.
    :param beginning: of ``usual_beginning``.
    :returns: what ``parse_events`` finds in it; None if the block needs that, because it is not in this form.
    """
    if not block.startswith(beginning) or len(block) >= sse.LARGE_BYTES or sse.CR in block:
        return None
    data = block[len(beginning) :]
    if data.find(b"\n") != len(data) - 2 or not data.endswith(b"\n\n") or jsontext.may_be_too_deep(data):
        return None
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None
