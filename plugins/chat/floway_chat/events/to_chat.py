"""Translate the events of the Responses API to the chunks of Chat Completions."""

from collections.abc import Callable, Mapping
from typing import Any

from floway_chat import errors, reasoning
from floway_chat.events import completion
from floway_chat.events.options import AnswerOptions
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.event_parser import parse_events
from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_core.protocol.stop_sequences import StopScanner

TEXT_DELTA = "response.output_text.delta"

_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
"""Characters that JSON allows but some clients take for line ends, with their escapes."""


class ChatTranslator:
    """Converts the events of one stream."""

    def __init__(self, options: AnswerOptions) -> None:
        self._options = options
        self._scanner = StopScanner(options.stop) if options.stop else None
        self._response: Mapping[str, Any] = {}
        """The newest response object."""
        self._head = self._tail = b""
        """The bytes around the ``delta`` of a chunk; empty until the first chunk."""
        self._sent_lengths: dict[Any, int] = {}
        """Characters sent so far: of a text by output index and part, of a call by output index."""
        self._calls: dict[int, int] = {}
        """The index of each call in ``tool_calls``, by output index."""
        self._closed_items: set[int] = set()
        """The output indexes of items that are complete."""
        self._reasoning: dict[int, str] = {}
        """The type of delta that is sent of each reasoning item, by output index."""
        self._reasoning_part: Any = None
        """The part of a reasoning item that was sent last."""
        self._failure: dict[str, Any] | None = None
        """The error of an ``error`` event."""
        self._has_ended = False

    # ------------------------------------------------------------------------------------------------- the translator
    def feed(self, block: bytes) -> bytes:
        """Convert events; see ``floway_core.dialect.Translator``."""
        chunks = []
        for event in parse_events(block):
            if event is None:
                continue
            kind = event["type"]
            if kind == TEXT_DELTA:
                chunks.append(self._write_text(event))
            elif write := _WRITERS.get(kind):
                chunks.append(write(self, event))
        return b"".join(chunks)

    def end(self) -> bytes:
        """Report an ``error`` event that no terminal event has followed."""
        return b"" if self._has_ended or not self._failure else self._write_error(self._failure)

    def failure(self, error: GatewayError) -> bytes:
        """Report an error of the gateway."""
        return self._write_error(errors.error_object(error))

    # --------------------------------------------------------------------------------------------------------- chunks
    def _chunk(self, delta: bytes, finish: bytes = b"null") -> bytes:
        """Write a chunk.

        :param delta: the encoded delta.
        :param finish: the encoded ``finish_reason``.
        """
        for character, escape in _LINE_SEPARATORS:
            if character in delta:
                delta = delta.replace(character, escape)
        begin = b"" if self._head else self._begin()
        if finish == b"null":
            return begin + self._head + delta + self._tail
        return begin + self._head + delta + self._tail.replace(b'"finish_reason":null', b'"finish_reason":' + finish)

    def _begin(self) -> bytes:
        """Write the first chunk, which has the role; after it, ``_chunk`` can write others."""
        envelope = completion.build_envelope({**self._response, "service_tier": None}, self._options, _KIND)
        self._head = b'data: %s,"choices":[{"index":0,"delta":' % jsontext.dumps(envelope)[:-1]
        usage = b',"usage":null' if self._options.include_usage else b""
        self._tail = b',"logprobs":null,"finish_reason":null}]%s}\n\n' % usage
        return self._chunk(b'{"role":"assistant","content":"","refusal":null}')

    def _delta(self, **fields: Any) -> bytes:
        return self._chunk(jsontext.dumps(fields))

    @property
    def _is_stopped(self) -> bool:
        """Whether a stop sequence has ended the answer. The rest is dropped."""
        return self._scanner is not None and self._scanner.match is not None

    # ---------------------------------------------------------------------------------------------------------- texts
    def _write_text(self, event: Mapping[str, Any]) -> bytes:
        delta, part = event.get("delta"), (event.get("output_index"), event.get("content_index"))
        if not isinstance(delta, str):
            return b""
        self._sent_lengths[part] = self._sent_lengths.get(part, 0) + len(delta)
        if self._options.logprobs and event.get("logprobs"):
            return self._write_logprobs(delta, event["logprobs"])
        return self._write_content(delta)

    def _write_content(self, text: str) -> bytes:
        if self._scanner:
            text = self._scanner.feed(text)
        return self._chunk(b'{"content":%b}' % jsontext.dumps(text)) if text else b""

    def _write_logprobs(self, text: str, entries: Any) -> bytes:
        entries = [completion.convert_logprob(entry) for entry in entries if isinstance(entry, dict)]
        logprobs = jsontext.dumps({"content": entries, "refusal": None})
        return self._write_content(text).replace(b'"logprobs":null', b'"logprobs":' + logprobs)

    def _write_refusal(self, event: Mapping[str, Any]) -> bytes:
        delta, part = event.get("delta"), (event.get("output_index"), event.get("content_index"))
        if not isinstance(delta, str):
            return b""
        self._sent_lengths[part] = self._sent_lengths.get(part, 0) + len(delta)
        return self._delta(refusal=delta)

    def _write_thought(self, event: Mapping[str, Any]) -> bytes:
        """Write a delta of reasoning. If an item has a text and a summary, only the first to arrive is sent."""
        delta, index, kind = event.get("delta"), event.get("output_index"), event["type"]
        if not isinstance(delta, str) or not isinstance(index, int) or self._is_stopped:
            return b""
        if self._reasoning.setdefault(index, kind) != kind:
            return b""
        part = (index, event.get("summary_index"), event.get("content_index"))
        separator = "\n\n" if self._reasoning_part not in (None, part) else ""
        self._reasoning_part = part
        return self._delta(reasoning_content=separator + delta)

    # ---------------------------------------------------------------------------------------------------------- calls
    def _open_item(self, event: Mapping[str, Any]) -> bytes:
        item, index = event.get("item"), event.get("output_index")
        if not isinstance(item, dict) or item.get("type") not in TOOL_CALL_TYPES or not isinstance(index, int):
            return b""
        return self._open_call(index, item)

    def _open_call(self, index: int, item: Mapping[str, Any]) -> bytes:
        """Announce a call, without its arguments."""
        if index in self._calls or self._is_stopped:
            return b""
        self._calls[index], self._sent_lengths[index] = len(self._calls), 0
        call = completion.build_call({**item, "arguments": "", "input": ""})
        if self._options.uses_functions:
            return self._delta(function_call=call.get("function"))
        return self._delta(tool_calls=[{"index": self._calls[index], **call}])

    def _write_arguments(self, event: Mapping[str, Any]) -> bytes:
        delta, index = event.get("delta"), event.get("output_index")
        if not isinstance(delta, str) or index not in self._calls:
            return b""
        return self._write_call(index, delta, is_custom=event["type"] == _CUSTOM_DELTA)

    def _write_call(self, index: int, delta: str, is_custom: bool) -> bytes:
        self._sent_lengths[index] += len(delta)
        if is_custom:
            return self._delta(tool_calls=[{"index": self._calls[index], "custom": {"input": delta}}])
        if self._options.uses_functions:
            return self._delta(function_call={"arguments": delta})
        return self._delta(tool_calls=[{"index": self._calls[index], "function": {"arguments": delta}}])

    # ----------------------------------------------------------------------------------------------------- whole items
    def _close_item(self, event: Mapping[str, Any]) -> bytes:
        item, index = event.get("item"), event.get("output_index")
        if not isinstance(item, dict) or not isinstance(index, int) or index in self._closed_items:
            return b""
        self._closed_items.add(index)
        write = _ITEM_WRITERS.get(str(item.get("type")))
        return write(self, index, item) if write else b""

    def _close_message(self, index: int, item: Mapping[str, Any]) -> bytes:
        """Write the rest of a message that was not sent as deltas, and its citations."""
        parts, chunks = completion.message_parts(item), []
        for position, part in enumerate(parts):
            sent_length = self._sent_lengths.get((index, position), 0)
            for field, write in (("text", self._write_content), ("refusal", lambda rest: self._delta(refusal=rest))):
                if isinstance(text := part.get(field), str) and len(text) > sent_length:
                    chunks.append(write(text[sent_length:]))
        if annotations := completion.citations(parts):
            chunks.append(self._delta(annotations=annotations))
        return b"".join(chunks)

    def _close_call(self, index: int, item: Mapping[str, Any]) -> bytes:
        is_custom = item.get("type") == "custom_tool_call"
        text = item.get("input" if is_custom else "arguments")
        opening = self._open_call(index, item)
        if index not in self._calls:
            return b""
        rest = text[self._sent_lengths[index] :] if isinstance(text, str) else ""
        return opening + (self._write_call(index, rest, is_custom) if rest else b"")

    def _close_reasoning(self, index: int, item: Mapping[str, Any]) -> bytes:
        if self._is_stopped:
            return b""
        chunks = b""
        text = reasoning.item_text(item)
        if index not in self._reasoning and text:
            chunks = self._delta(reasoning_content=("\n\n" if self._reasoning_part else "") + text)
            self._reasoning_part = (index,)
        details = reasoning.write_details(item)
        return chunks + (self._delta(reasoning_details=details) if details else b"")

    # ------------------------------------------------------------------------------------------------------- the ends
    def _start(self, event: Mapping[str, Any]) -> bytes:
        """Store the response object, and write the first chunk."""
        if isinstance(response := event.get("response"), dict):
            self._response = response
        return b"" if self._head else self._begin()

    def _finish(self, event: Mapping[str, Any]) -> bytes:
        """Write the last chunks: the rest of the output, ``finish_reason``, the usage."""
        response = event.get("response")
        if not isinstance(response, dict) or self._has_ended:
            return b""
        items = [item for item in response.get("output") or () if isinstance(item, dict)]
        rest = [self._close_item({"item": item, "output_index": index}) for index, item in enumerate(items)]
        if self._scanner and (text := self._scanner.end()):
            rest.append(self._chunk(b'{"content":%b}' % jsontext.dumps(text)))
        calls = [{"type": TOOL_CALL_TYPES[0]}] if self._calls else []
        reason = completion.finish_reason(response, calls, self._options, self._is_stopped)
        rest.append(self._chunk(b"{}", jsontext.dumps(reason)))
        self._has_ended = True
        if self._options.include_usage:
            envelope = {**self._response, **{name: response[name] for name in _LATE_FIELDS if name in response}}
            last = completion.build_envelope(envelope, self._options, _KIND)
            usage = completion.usage_field(response).get("usage")
            rest.append(b"data: %b\n\n" % jsontext.dumps({**last, "choices": [], "usage": usage}))
        return b"".join(rest)

    def _note_error(self, event: Mapping[str, Any]) -> bytes:
        self._failure = errors.event_error(event)
        return b""

    def _fail(self, event: Mapping[str, Any]) -> bytes:
        return self._write_error(self._failure or errors.event_error(event))

    def _write_error(self, error: Mapping[str, Any]) -> bytes:
        if self._has_ended:
            return b""
        self._has_ended = True
        return b"data: %b\n\n" % jsontext.dumps({"error": error})


_KIND = "chat.completion.chunk"
_LATE_FIELDS = ("service_tier", "system_fingerprint")
"""Fields of the response object that may change until its end."""
_CUSTOM_DELTA = "response.custom_tool_call_input.delta"

_WRITERS: Mapping[str, Callable[[ChatTranslator, Mapping[str, Any]], bytes]] = {
    "response.created": ChatTranslator._start,
    "response.in_progress": ChatTranslator._start,
    "response.refusal.delta": ChatTranslator._write_refusal,
    "response.reasoning_summary_text.delta": ChatTranslator._write_thought,
    "response.reasoning_text.delta": ChatTranslator._write_thought,
    "response.output_item.added": ChatTranslator._open_item,
    "response.function_call_arguments.delta": ChatTranslator._write_arguments,
    _CUSTOM_DELTA: ChatTranslator._write_arguments,
    "response.output_item.done": ChatTranslator._close_item,
    "response.completed": ChatTranslator._finish,
    "response.incomplete": ChatTranslator._finish,
    "response.failed": ChatTranslator._fail,
    "error": ChatTranslator._note_error,
}
"""By type of event. All others are dropped: chat clients have no counterpart."""

_ITEM_WRITERS: Mapping[str, Callable[[ChatTranslator, int, Mapping[str, Any]], bytes]] = {
    "message": ChatTranslator._close_message,
    "reasoning": ChatTranslator._close_reasoning,
    "function_call": ChatTranslator._close_call,
    "custom_tool_call": ChatTranslator._close_call,
}
"""By type of item."""
