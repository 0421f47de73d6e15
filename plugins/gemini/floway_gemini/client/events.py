"""Translate the events of the Responses API to the chunks of a generateContent stream."""

from collections.abc import Callable, Mapping
from typing import Any

from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.event_parser import parse_events
from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_gemini import grounding, thoughts
from floway_gemini.client.chunks import Part, answer, call_part, finish_reason_of, image_part, thought_texts
from floway_gemini.client.texts import VisibleText
from floway_gemini.client.view import ClientView
from floway_gemini.errors import encode_error, error_body, failure_body

Event = dict[str, Any]
Key = tuple[int | None, int | None]

KEEPALIVE = b"\r\n"
"""An empty line: Google's SDK for JavaScript cannot parse comments."""

_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
"""Line and paragraph separator as UTF-8, and escaped: some clients take them for line ends."""
_MARK = "\x00"


def encode(value: Any) -> bytes:
    """Return a value as JSON without raw line separators."""
    content = jsontext.dumps(value)
    if b"\xe2\x80" in content:
        for raw, escaped in _SEPARATORS:
            content = content.replace(raw, escaped)
    return content


class AnswerEvents:
    """Translates one stream."""

    def __init__(self, view: ClientView) -> None:
        self._view = view
        text_chunk = encode(answer(view, [{"text": _MARK}]))
        self._head, _, self._tail = (b"data: %b\n\n" % text_chunk).partition(jsontext.dumps(_MARK))
        """The bytes around the text in a chunk. They are encoded once to make deltas cheap."""
        self._errors_are_events = view.is_array or not view.is_google_sdk
        self._is_plain = not view.stop_sequences and not view.is_wrapped
        self._lengths: dict[Key, int] = {}
        """Characters received of each text, by the indexes of its item and part."""
        self._visible: dict[Key, VisibleText] = {}
        """By the same indexes; only if the client does not see texts unchanged."""
        self._finished: set[tuple[Any, ...]] = set()
        """The indexes of texts, thoughts and items that are complete."""
        self._reasoning: list[Event] = []
        """Reasoning items for the signature of the next part."""
        self._sources: list[Event] = []
        """Web searches and messages, for the grounding metadata."""
        self._is_malformed = self._is_refused = self._has_stopped = self._has_ended = False
        self._out: list[bytes] = []

    # --------------------------------------------------------------------------------------------------- translator
    def feed(self, block: bytes) -> bytes:
        """Translate events (see ``Translator``)."""
        self._out = []
        for event in parse_events(block):
            if event is not None and not self._has_ended and (handler := _HANDLERS.get(event["type"])):
                handler(self, event)
        return b"".join(self._out)

    def end(self) -> bytes:
        """Return nothing: the terminal event has already been translated."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Return the error."""
        self._has_ended = True
        return encode_error(error_body(error), is_event=self._errors_are_events)

    # -------------------------------------------------------------------------------------------------------- pieces
    def _write(self, part: Part) -> None:
        """Write a part, with the reasoning before it."""
        if self._reasoning and not part.get("thought"):
            part = {**part, "thoughtSignature": thoughts.encode_items(self._reasoning)}
            self._reasoning = []
        self._out.append(b"data: %b\n\n" % encode(answer(self._view, [part])))

    def _write_text(self, text: str) -> None:
        if self._reasoning:
            self._write({"text": text})
        else:
            self._out.append(b"%b%b%b" % (self._head, encode(text), self._tail))

    # --------------------------------------------------------------------------------------------------------- text
    def _add_text(self, event: Event) -> None:
        delta = event.get("delta")
        if not isinstance(delta, str) or not delta:
            return
        key = _key(event)
        self._lengths[key] = self._lengths.get(key, 0) + len(delta)
        if self._is_plain:
            self._write_text(delta)
        elif not self._has_stopped:
            visible = self._visible.get(key)
            if visible is None:
                visible = self._visible[key] = VisibleText(self._view)
            self._show(visible, visible.feed(delta))

    def _show(self, visible: VisibleText, text: str) -> None:
        if text:
            self._write_text(text)
        self._has_stopped = self._has_stopped or visible.has_stopped

    def _add_refusal(self, event: Event) -> None:
        self._is_refused = True
        self._add_text(event)

    def _end_text(self, key: Key, text: str) -> None:
        """Write the rest of a complete text that its deltas omitted, and the text that was held back."""
        if key in self._finished:
            return
        self._finished.add(key)
        received = self._lengths.get(key, 0)
        if len(text) > received:
            self._add_text({"output_index": key[0], "content_index": key[1], "delta": text[received:]})
        if (visible := self._visible.pop(key, None)) and not self._has_stopped:
            self._show(visible, visible.end())

    # ------------------------------------------------------------------------------------------------------ thoughts
    def _add_thought(self, event: Event) -> None:
        """Write a complete part of a summary: clients show each part as one thought."""
        text = event.get("text")
        key = (_index(event.get("output_index")), "thought", _index(event.get("summary_index")))
        if not self._view.shows_thoughts or not isinstance(text, str) or not text or key in self._finished:
            return
        self._finished.add(key)
        self._write({"text": text, "thought": True})

    def _add_raw_thought(self, event: Event) -> None:
        """Write a delta of reasoning text. It is not collected, because it may be long."""
        delta = event.get("delta")
        if self._view.shows_thoughts and isinstance(delta, str) and delta:
            self._finished.add((_index(event.get("output_index")), "reasoning"))
            self._write({"text": delta, "thought": True})

    def _end_reasoning(self, item: Event, index: int | None) -> None:
        if (index, "reasoning") not in self._finished:
            for at, text in enumerate(thought_texts(item)):
                self._add_thought({"output_index": index, "summary_index": at, "text": text})
        self._reasoning.append(item)

    # -------------------------------------------------------------------------------------------------------- items
    def _end_item(self, event: Event) -> None:
        item, index = event.get("item"), _index(event.get("output_index"))
        if not isinstance(item, dict) or self._has_stopped or (index, "item") in self._finished:
            return
        self._finished.add((index, "item"))
        kind = item.get("type")
        if kind == "message":
            self._end_message(item, index)
        elif kind == "reasoning":
            self._end_reasoning(item, index)
        elif kind == grounding.CALL:
            self._sources.append(item)
        elif kind in TOOL_CALL_TYPES:
            part = call_part(item, self._view)
            self._is_malformed = self._is_malformed or part is None
            if part:
                self._write(part)
        elif kind == "image_generation_call" and (part := image_part(item)):
            self._write(part)

    def _end_message(self, item: Event, index: int | None) -> None:
        self._sources.append(item)
        for at, part in enumerate(grounding.parts(item)):
            self._is_refused = self._is_refused or part.get("type") == "refusal"
            self._end_text((index, at), grounding.part_text(part))

    # ---------------------------------------------------------------------------------------------------------- end
    def _finish(self, event: Event) -> None:
        self._has_ended = True
        response = event.get("response")
        response = {
            "status": event["type"].removeprefix("response."),
            **(response if isinstance(response, dict) else {}),
        }
        for key in list(self._visible):
            self._end_text(key, "")
        reason = finish_reason_of(response, is_malformed=self._is_malformed, is_refused=self._is_refused)
        part: Part = {"text": ""}
        if self._reasoning:
            part["thoughtSignature"] = thoughts.encode_items(self._reasoning)
        last = answer(
            self._view,
            [part],
            finish_reason="STOP" if self._has_stopped else reason,
            grounding=grounding.to_metadata(self._sources),
            counts=response.get("usage"),
        )
        self._out.append(b"data: %b\n\n" % encode(last))

    def _fail(self, event: Event) -> None:
        self._has_ended = True
        self._out.append(encode_error(failure_body(event), is_event=self._errors_are_events))


_HANDLERS: Mapping[str, Callable[[AnswerEvents, Event], None]] = {
    "response.output_text.delta": AnswerEvents._add_text,
    "response.refusal.delta": AnswerEvents._add_refusal,
    "response.reasoning_summary_text.done": AnswerEvents._add_thought,
    "response.reasoning_text.delta": AnswerEvents._add_raw_thought,
    "response.output_item.done": AnswerEvents._end_item,
    "response.completed": AnswerEvents._finish,
    "response.incomplete": AnswerEvents._finish,
    "response.failed": AnswerEvents._fail,
    "error": AnswerEvents._fail,
}
"""By type of event. All others are dropped: this API has no counterpart."""


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _key(event: Event) -> Key:
    """Return the indexes of the item and the part that an event belongs to."""
    return _index(event.get("output_index")), _index(event.get("content_index"))
