"""Translate the events of the Messages API to those of the Responses API."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from floway_anthropic import search, usage
from floway_anthropic.reader import INCOMPLETE_REASONS
from floway_anthropic.upstream.history import encode_thinking
from floway_core.protocol import jsontext
from floway_core.protocol.event_parser import parse_events
from floway_core.protocol.failures import NO_REASON, Failure, read_failure
from floway_core.protocol.response_writer import ResponseEventWriter

Event = dict[str, Any]

SERVICE_TIERS = {"standard": "default"}
"""``usage.service_tier`` of a message -> ``service_tier`` of a response; all others are the same."""


class OpenBlock:
    """A content block that is being received."""

    __slots__ = ("chunks", "content")

    def __init__(self, content: Event) -> None:
        self.content = content
        """The block in its ``content_block_start`` event."""
        self.chunks: list[str] = []
        """Chunks of its text or JSON that are needed when it ends."""


class ResponseEvents:
    """Translates one stream."""

    def __init__(self, model: str, custom_tools: Collection[str] = ()) -> None:
        """:param model: the name that the upstream uses.
        :param custom_tools: names of tools that take free text. The upstream knows them as functions.
        """
        self._model = model
        self._custom_tools = custom_tools
        self._writer = ResponseEventWriter(model)
        self._usage: dict[str, Any] = {}
        self._stop: Event = {}
        self._blocks: dict[Any, OpenBlock] = {}
        """By index."""
        self._searches: dict[str, str] = {}
        """The queries of web searches by the id of their block."""
        self._text_length = 0
        """Characters in the open message, to which citations refer."""
        self._has_ended = False

    # --------------------------------------------------------------------------------------------------- translator
    def feed(self, block: bytes) -> bytes:
        """Translate events (see ``Translator``)."""
        return b"".join([self.translate(event) for event in parse_events(block) if event is not None])

    def translate(self, event: Event) -> bytes:
        """Translate one parsed event."""
        handler = None if self._has_ended else _HANDLERS.get(event["type"])
        return handler(self, event) if handler else b""

    @property
    def response(self) -> Event:
        """The response object. It is complete after the last event."""
        return self._writer.response

    def end(self) -> bytes:
        """Return nothing: a stream without its last event is incomplete, and the gateway reports that."""
        return b""

    # ------------------------------------------------------------------------------------------------------ message
    def _start(self, event: Event) -> bytes:
        message = event.get("message")
        message = message if isinstance(message, dict) else {}
        self._usage = usage.merge({}, message.get("usage"))
        suffix = str(message.get("id") or "").removeprefix("msg_")
        self._writer = ResponseEventWriter(self._model, **({"id": f"resp_{suffix}"} if suffix else {}))
        return self._writer.begin()

    def _record_stop(self, event: Event) -> bytes:
        delta = event.get("delta")
        fields = delta.items() if isinstance(delta, dict) else ()  # a later event may contain only the usage
        self._stop = {**self._stop, **{name: value for name, value in fields if value is not None}}
        self._usage = usage.merge(self._usage, event.get("usage"))
        return b""

    def _finish(self, event: Event) -> bytes:
        self._has_ended = True
        reason, details = self._stop.get("stop_reason"), self._stop.get("stop_details")
        events = b""
        explanation = details.get("explanation") if isinstance(details, dict) else None
        if reason == "refusal" and isinstance(explanation, str) and explanation:
            events = self._writer.refusal(explanation)
        tier = self._usage.get("service_tier")
        fields = {"service_tier": SERVICE_TIERS.get(tier, tier)} if isinstance(tier, str) else {}
        counts = usage.to_responses(self._usage)
        return events + self._writer.complete(counts, incomplete_reason=INCOMPLETE_REASONS.get(str(reason)), **fields)

    def _fail(self, event: Event) -> bytes:
        self._has_ended = True
        failure = read_failure(event) or Failure(NO_REASON)
        return self._writer.fail(dataclasses.replace(failure, code=failure.code or failure.type))

    # ------------------------------------------------------------------------------------------------------- blocks
    def _open_block(self, event: Event) -> bytes:
        content = event.get("content_block")
        if not isinstance(content, dict):
            return b""
        index, kind = _index(event), content.get("type")
        self._blocks[index] = OpenBlock(content)
        opener = _OPENERS.get(kind) if isinstance(kind, str) else None
        return opener(self, index, content) if opener else b""

    def _add_delta(self, event: Event) -> bytes:
        block, delta = self._blocks.get(_index(event)), event.get("delta")
        kind = delta.get("type") if isinstance(delta, dict) else None
        handler = _DELTAS.get(kind) if isinstance(kind, str) else None
        return handler(self, block, delta) if block and handler and isinstance(delta, dict) else b""

    def _close_block(self, event: Event) -> bytes:
        index = _index(event)
        block = self._blocks.pop(index, None)
        kind = block.content.get("type") if block else None
        closer = _CLOSERS.get(kind) if isinstance(kind, str) else None
        return closer(self, index, block) if closer and block else b""

    def _write_item(self, item: Event) -> bytes:
        self._text_length = 0
        return self._writer.item(item)

    # --------------------------------------------------------------------------------------------------------- text
    def _begin_text(self, index: Any, block: Event) -> bytes:
        return self._add_text(self._blocks[index], {"text": block.get("text")})

    def _write_text(self, text: str) -> bytes:
        self._text_length += len(text)
        return self._writer.text(text) if text else b""

    def _add_text(self, block: OpenBlock, delta: Event) -> bytes:
        text = delta.get("text")
        if not isinstance(text, str) or not text:
            return b""
        block.chunks.append(text)
        return self._write_text(text)

    def _add_citation(self, block: OpenBlock, delta: Event) -> bytes:
        """Add a citation of a web page. It refers to the text of its block."""
        citation = delta.get("citation")
        if not isinstance(citation, dict) or not isinstance(citation.get("url"), str):
            return b""
        length = sum(map(len, block.chunks))
        annotation = {
            "type": "url_citation",
            "url": citation["url"],
            "title": str(citation.get("title") or ""),
            "start_index": self._text_length - length,
            "end_index": self._text_length,
        }
        return self._writer.annotation(annotation)

    # ----------------------------------------------------------------------------------------------------- thinking
    def _write_redacted(self, index: Any, block: Event) -> bytes:
        return self._write_item({"type": "reasoning", "summary": [], "encrypted_content": encode_thinking(block)})

    def _begin_thinking(self, index: Any, block: Event) -> bytes:
        return self._add_thinking(self._blocks[index], {"thinking": block.get("thinking")})

    def _add_thinking(self, block: OpenBlock, delta: Event) -> bytes:
        text = delta.get("thinking")
        if not isinstance(text, str) or not text:
            return b""
        self._text_length = 0
        block.chunks.append(text)
        return self._writer.reasoning(text, summary=True)

    def _record_signature(self, block: OpenBlock, delta: Event) -> bytes:
        block.content["signature"] = delta.get("signature")
        return b""

    def _close_thinking(self, index: Any, block: OpenBlock) -> bytes:
        self._text_length = 0
        content = {**block.content, "thinking": "".join(block.chunks)}
        return self._writer.end_reasoning(encode_thinking(content))

    # -------------------------------------------------------------------------------------------------------- calls
    def _open_call(self, index: Any, block: Event) -> bytes:
        self._text_length = 0
        name = str(block.get("name") or "")
        return self._writer.open_call(index, str(block.get("id") or ""), name, custom=name in self._custom_tools)

    def _is_custom(self, block: OpenBlock) -> bool:
        return str(block.content.get("name") or "") in self._custom_tools

    def _add_json(self, block: OpenBlock, delta: Event) -> bytes:
        text = delta.get("partial_json")
        if not isinstance(text, str) or not text:
            return b""
        block.chunks.append(text)
        if block.content.get("type") != "tool_use" or self._is_custom(block):
            return b""
        index = next(index for index, candidate in self._blocks.items() if candidate is block)
        return self._writer.call_delta(index, text) if self._writer.is_open(index) else b""

    def _close_call(self, index: Any, block: OpenBlock) -> bytes:
        events, start_input = b"", block.content.get("input")
        if not self._writer.is_open(index):  # the upstream has started the message again
            return b""
        if self._is_custom(block):
            events = self._writer.call_delta(index, _free_text(_read_json(block)))
        elif not block.chunks:
            arguments = jsontext.dumps(start_input if isinstance(start_input, dict) else {}).decode()
            events = self._writer.call_delta(index, arguments)
        return events + self._writer.close_call(index)

    # ------------------------------------------------------------------------------------------------------- search
    def _close_search(self, index: Any, block: OpenBlock) -> bytes:
        arguments = _read_json(block)
        query = arguments.get("query") if isinstance(arguments, dict) else None
        self._searches[str(block.content.get("id"))] = query if isinstance(query, str) else ""
        return b""

    def _write_search(self, index: Any, block: Event) -> bytes:
        use_id = str(block.get("tool_use_id") or "")
        results = block.get("content")
        pages = [page for page in results if isinstance(page, dict)] if isinstance(results, list) else []
        sources = [{"type": "url", "url": page["url"]} for page in pages if isinstance(page.get("url"), str)]
        action = {"type": "search", "query": self._searches.get(use_id, ""), "sources": sources}
        status = "completed" if isinstance(results, list) else "failed"
        call_id = f"ws_{use_id.removeprefix(search.USE_PREFIX)}"
        return self._write_item({"type": search.CALL, "id": call_id, "status": status, "action": action})


_HANDLERS: Mapping[str, Callable[[ResponseEvents, Event], bytes]] = {
    "message_start": ResponseEvents._start,
    "content_block_start": ResponseEvents._open_block,
    "content_block_delta": ResponseEvents._add_delta,
    "content_block_stop": ResponseEvents._close_block,
    "message_delta": ResponseEvents._record_stop,
    "message_stop": ResponseEvents._finish,
    "error": ResponseEvents._fail,
}
"""By type of event. All others, such as ``ping``, are dropped."""

_OPENERS: Mapping[str, Callable[[ResponseEvents, Any, Event], bytes]] = {
    "text": ResponseEvents._begin_text,
    "thinking": ResponseEvents._begin_thinking,
    "tool_use": ResponseEvents._open_call,
    "redacted_thinking": ResponseEvents._write_redacted,
    search.RESULT: ResponseEvents._write_search,
}
"""By type of block: the function that handles its start."""

_DELTAS: Mapping[str, Callable[[ResponseEvents, OpenBlock, Event], bytes]] = {
    "text_delta": ResponseEvents._add_text,
    "thinking_delta": ResponseEvents._add_thinking,
    "signature_delta": ResponseEvents._record_signature,
    "input_json_delta": ResponseEvents._add_json,
    "citations_delta": ResponseEvents._add_citation,
}
"""By type of delta."""

_CLOSERS: Mapping[str, Callable[[ResponseEvents, Any, OpenBlock], bytes]] = {
    "thinking": ResponseEvents._close_thinking,
    "tool_use": ResponseEvents._close_call,
    "server_tool_use": ResponseEvents._close_search,
}
"""By type of block: the function that handles its end."""


def _index(event: Event) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _read_json(block: OpenBlock) -> Any:
    """Return the input of a tool, from the deltas or from the start of the block."""
    try:
        return jsontext.loads("".join(block.chunks).encode()) if block.chunks else block.content.get("input")
    except ValueError:
        return None


def _free_text(arguments: Any) -> str:
    """Return the text for a freeform tool from the arguments of its function."""
    text = arguments.get("input") if isinstance(arguments, dict) else None
    return text if isinstance(text, str) else ""
