"""Convert a message that is not streamed to a response object."""

from collections.abc import Collection, Iterator
from typing import Any

from floway_anthropic.upstream.events import Event, ResponseEvents
from floway_core.protocol import jsontext


def convert_document(content: bytes, model: str, custom_tools: Collection[str] = ()) -> bytes:
    """Convert a message that is not streamed to a response object. Anything else is returned unchanged.

    :param model: as in ``ResponseEvents``, like ``custom_tools``.
    """
    try:
        message = jsontext.loads(content)
    except ValueError:
        return content
    blocks = message.get("content") if isinstance(message, dict) else None
    if not isinstance(blocks, list) or message.get("type") != "message":
        return content
    translator = ResponseEvents(model, custom_tools)
    for event in _synthesize_events(message, blocks):
        translator.translate(event)
    return jsontext.dumps(translator.response)


def _synthesize_events(message: Event, blocks: list[Any]) -> Iterator[Event]:
    """Yield the events of a stream with the same message."""
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        start = {**block, kind: ""} if kind in ("text", "thinking") else block  # the field has the name of the type
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in _synthesize_deltas(block) if isinstance(block, dict) else ():
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {name: message.get(name) for name in ("stop_reason", "stop_details")}
    yield {"type": "message_delta", "delta": stop, "usage": message.get("usage")}
    yield {"type": "message_stop"}


def _synthesize_deltas(block: Event) -> Iterator[Event]:
    if block.get("type") == "text":
        yield {"type": "text_delta", "text": block.get("text")}
        citations = block.get("citations")
        for citation in citations if isinstance(citations, list) else ():
            yield {"type": "citations_delta", "citation": citation}
    elif block.get("type") == "thinking":
        yield {"type": "thinking_delta", "thinking": block.get("thinking")}
