"""From a message of the Messages API in one piece to a response object."""

from collections.abc import Collection, Iterator
from typing import Any

from floway_anthropic.upstream.events import Event, ResponseEvents
from floway_core.protocol import jsontext


def convert_document(content: bytes, model: str, custom_tools: Collection[str] = ()) -> bytes:
    """Convert a message in one piece to a response object. Anything else is returned as it is.

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
    for event in _events_of(message, blocks):
        translator.take(event)
    return jsontext.dumps(translator.response)


def _events_of(message: Event, blocks: list[Any]) -> Iterator[Event]:
    """Yield the events of a stream that would add up to a message."""
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        begun = {**block, kind: ""} if kind in ("text", "thinking") else block  # the field is called like the type
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in _deltas_of(block) if isinstance(block, dict) else ():
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {name: message.get(name) for name in ("stop_reason", "stop_details")}
    yield {"type": "message_delta", "delta": stop, "usage": message.get("usage")}
    yield {"type": "message_stop"}


def _deltas_of(block: Event) -> Iterator[Event]:
    if block.get("type") == "text":
        yield {"type": "text_delta", "text": block.get("text")}
        citations = block.get("citations")
        for citation in citations if isinstance(citations, list) else ():
            yield {"type": "citations_delta", "citation": citation}
    elif block.get("type") == "thinking":
        yield {"type": "thinking_delta", "thinking": block.get("thinking")}
