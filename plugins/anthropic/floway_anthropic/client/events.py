"""Translate the events of the Responses API to those of the Messages API."""

from collections.abc import Callable, Mapping

from floway_anthropic import blocks, search, thinking, usage
from floway_anthropic.client.block_stream import (
    BlockStream,
    citations_delta,
    encode_event,
    json_delta,
    signature_delta,
    text_delta,
    thinking_delta,
)
from floway_anthropic.client.messages import empty_message
from floway_anthropic.client.open_text import Event, Key, OpenText, item_key, part_key
from floway_anthropic.client.stops import stop_fields
from floway_anthropic.client.view import ClientView
from floway_anthropic.errors import encode_failure, error_event
from floway_core.errors import GatewayError
from floway_core.protocol.event_parser import parse_events
from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_core.protocol.stop_sequences import StopScanner

PING = encode_event("ping")


class MessageEvents:
    """Translates one stream."""

    def __init__(self, view: ClientView, request_id: str) -> None:
        self._view = view
        self._request_id = request_id
        self._blocks = BlockStream()
        self._texts: dict[Key, OpenText] = {}
        """By index of the output item and of its part (None if the item has no parts)."""
        self._finished: set[Key] = set()
        self._searches: list[Event] = []
        """Web searches whose results are not sent yet: the citations contain the titles."""
        self._search_count = 0
        self._calls_tool = False
        self._refusal: str | None = None
        self._stop_sequence: str | None = None
        self._has_started = self._has_ended = False
        self._out: list[bytes] = []

    # --------------------------------------------------------------------------------------------------- translator
    def feed(self, block: bytes) -> bytes:
        """Translate events (see ``Translator``)."""
        self._out = []
        for event in parse_events(block):
            if event is None or self._has_ended:
                continue
            if not self._has_started:
                self._start(event)
            handler = _HANDLERS.get(event["type"])
            if handler:
                handler(self, event)
        return b"".join(self._out)

    def end(self) -> bytes:
        """Return nothing: the terminal event has already been translated."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Return an ``error`` event."""
        self._has_ended = True
        return error_event(error, self._request_id)

    def _start(self, event: Event) -> None:
        if event["type"] in ("error", "response.failed") or not event["type"].startswith("response."):
            return
        self._has_started = True
        response = event.get("response")
        message = empty_message(response if isinstance(response, dict) else {}, self._view.model)
        self._out.append(encode_event("message_start", message=message))

    # --------------------------------------------------------------------------------------------------------- text
    def _add_text(self, event: Event) -> None:
        if self._stop_sequence is not None:
            return
        delta = event.get("delta")
        if not isinstance(delta, str) or not delta:
            return
        text = self._texts.get(part_key(event)) or self._open_text(event)
        text.length += len(delta)
        text.text.append(delta)
        if text.scanner is None:
            self._show(text, delta)
        else:
            self._scan(text, text.scanner, delta)

    def _open_text(self, event: Event) -> OpenText:
        sequences = self._view.stop_sequences
        text = self._texts[part_key(event)] = OpenText(scanner=StopScanner(sequences) if sequences else None)
        return text

    def _show(self, text: OpenText, delta: str) -> None:
        if not text.is_shown:
            text.is_shown = True
            text.block, events = self._blocks.open(text.block.content)
            self._out.append(events)
        self._out.append(self._blocks.write(text.block, text_delta(delta)))

    def _scan(self, text: OpenText, scanner: StopScanner, delta: str) -> None:
        if visible := scanner.feed(delta):
            self._show(text, visible)
        if scanner.match is not None:
            self._stop_sequence = scanner.match
            self._out.append(self._blocks.close_all())

    def _add_refusal(self, event: Event) -> None:
        self._refusal = (self._refusal or "") + str(event.get("delta") or "")
        self._add_text(event)

    def _complete_text(self, event: Event) -> None:
        """Send the end of a complete text that its deltas left out."""
        key = part_key(event)
        received = self._texts[key].length if key in self._texts else 0
        full_text = event.get("text")
        if key not in self._finished and isinstance(full_text, str) and len(full_text) > received:
            self._add_text({**event, "delta": full_text[received:]})

    def _add_annotation(self, event: Event) -> None:
        text = self._texts.get(part_key(event))
        if text is None or not text.is_shown or self._stop_sequence is not None:
            return
        text.citations += 1
        annotation = event.get("annotation")
        if isinstance(annotation, dict) and (citation := search.citation(annotation, "".join(text.text))):
            self._out.append(self._blocks.write(text.block, citations_delta(citation)))

    def _end_part(self, event: Event) -> None:
        part = event.get("part")
        if not isinstance(part, dict) or part.get("type") == "reasoning_text":
            return
        key = part_key(event)
        if part.get("type") == "refusal":
            if self._refusal is None:
                self._refusal = str(part.get("refusal") or "")
            part = {**part, "text": part.get("refusal")}
        self._complete_text({**event, "text": part.get("text")})
        text = self._texts.pop(key, None)
        self._finished.add(key)
        if text is None or self._stop_sequence is not None:
            return
        if text.scanner and (rest := text.scanner.end()):
            self._show(text, rest)
        if not text.is_shown:
            return
        for annotation in blocks.annotations(part)[text.citations :]:
            if citation := search.citation(annotation, "".join(text.text)):
                self._out.append(self._blocks.write(text.block, citations_delta(citation)))
        self._out.append(self._blocks.close(text.block))

    # ----------------------------------------------------------------------------------------------------- thinking
    def _add_thinking(self, event: Event) -> None:
        delta = event.get("delta")
        if not self._shows_text() or not isinstance(delta, str) or not delta:
            return
        key = item_key(event)
        text = self._texts.get(key)
        if text is None:
            block, events = self._blocks.open({"type": "thinking", "thinking": "", "signature": ""})
            self._out.append(events)
            text = self._texts[key] = OpenText(block)
        part = event.get("summary_index", event.get("content_index"))
        if text.length and part != text.part:
            self._out.append(self._blocks.write(text.block, thinking_delta(thinking.SEPARATOR)))
        text.part = part
        text.length += len(delta)
        self._out.append(self._blocks.write(text.block, thinking_delta(delta)))

    def _shows_text(self) -> bool:
        return self._view.shows_thinking and self._view.shows_thinking_text and self._stop_sequence is None

    def _end_thinking(self, item: Event, key: Key) -> None:
        if not self._view.shows_thinking:
            return
        if text := self._texts.pop(key, None):
            signature = signature_delta(thinking.encode_signature(item))
            self._out += [self._blocks.write(text.block, signature), self._blocks.close(text.block)]
            return
        block = thinking.to_block(item, shows_text=self._view.shows_thinking_text)
        if block["type"] == "redacted_thinking":
            self._blocks.hold(block)
            return
        start, signature = {"type": "thinking", "thinking": "", "signature": ""}, signature_delta(block["signature"])
        if thinking.is_hidden(block):
            self._blocks.hold(start, signature)
        else:
            self._out.append(self._blocks.add(start, thinking_delta(block["thinking"]), signature))

    # -------------------------------------------------------------------------------------------------------- items
    def _begin_item(self, event: Event) -> None:
        item = event.get("item")
        if self._stop_sequence is not None or not isinstance(item, dict) or item.get("type") not in TOOL_CALL_TYPES:
            return
        self._calls_tool = True
        block, events = self._blocks.open(blocks.tool_use_block(item))
        self._texts[item_key(event)] = OpenText(block)
        self._out.append(events)

    def _add_arguments(self, event: Event) -> None:
        text = self._texts.get(item_key(event))
        delta = event.get("delta")
        if text is None or not isinstance(delta, str) or not delta:
            return
        text.length += len(delta)
        self._out.append(self._blocks.write(text.block, json_delta(delta)))

    def _end_item(self, event: Event) -> None:
        item = event.get("item")
        key = item_key(event)
        if not isinstance(item, dict) or self._stop_sequence is not None or key in self._finished:
            return
        self._finished.add(key)
        kind = item.get("type")
        if kind == "message":
            self._end_message(item, event)
        elif kind == "reasoning":
            self._end_thinking(item, key)
        elif kind in TOOL_CALL_TYPES:
            self._end_call(item, event, key)
        elif kind == search.CALL:
            self._add_search(item)

    def _end_message(self, item: Event, event: Event) -> None:
        for index, part in enumerate(blocks.parts(item)):
            part_event = {"output_index": event.get("output_index"), "content_index": index, "part": part}
            if part_key(part_event) not in self._finished:
                self._end_part(part_event)
        self._add_results([annotation for part in blocks.parts(item) for annotation in blocks.annotations(part)])

    def _end_call(self, item: Event, event: Event, key: Key) -> None:
        if key not in self._texts:
            self._begin_item(event)
        text = self._texts.pop(key)
        arguments = item.get("arguments")
        if item.get("type") == "custom_tool_call":
            arguments = blocks.encode_input(item)
        if isinstance(arguments, str) and len(arguments) > text.length:
            self._out.append(self._blocks.write(text.block, json_delta(arguments[text.length :])))
        self._out.append(self._blocks.close(text.block))

    # ------------------------------------------------------------------------------------------------------- search
    def _add_search(self, item: Event) -> None:
        self._search_count += 1
        block = search.use_block(item)
        query = json_delta(blocks.encode_json(block["input"]))
        self._out.append(self._blocks.add({**block, "input": {}}, query))
        self._searches.append(item)
        if search.has_titles(item):
            self._add_results([])

    def _add_results(self, citations: list[Event]) -> None:
        for item in self._searches:
            self._out.append(self._blocks.add(search.result_block(item, citations)))
        self._searches = []

    # ---------------------------------------------------------------------------------------------------------- end
    def _finish(self, event: Event) -> None:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        if self._stop_sequence is None:
            self._out.append(self._blocks.close_all())
            self._add_results([])
        reason = stop_fields(
            {"status": event["type"].removeprefix("response."), **response},
            calls_tool=self._calls_tool,
            refusal=self._refusal,
            stop_sequence=self._stop_sequence,
        )
        counts = usage.to_messages(response.get("usage"), searches=self._search_count)
        self._out += [encode_event("message_delta", delta=reason, usage=counts), encode_event("message_stop")]
        self._has_ended = True

    def _fail(self, event: Event) -> None:
        self._has_ended = True
        self._out.append(encode_failure(event, self._request_id))


_HANDLERS: Mapping[str, Callable[[MessageEvents, Event], None]] = {
    "response.output_text.delta": MessageEvents._add_text,
    "response.output_text.done": MessageEvents._complete_text,
    "response.output_text.annotation.added": MessageEvents._add_annotation,
    "response.refusal.delta": MessageEvents._add_refusal,
    "response.content_part.done": MessageEvents._end_part,
    "response.reasoning_summary_text.delta": MessageEvents._add_thinking,
    "response.reasoning_text.delta": MessageEvents._add_thinking,
    "response.output_item.added": MessageEvents._begin_item,
    "response.function_call_arguments.delta": MessageEvents._add_arguments,
    "response.output_item.done": MessageEvents._end_item,
    "response.completed": MessageEvents._finish,
    "response.incomplete": MessageEvents._finish,
    "response.failed": MessageEvents._fail,
    "error": MessageEvents._fail,
}
"""By type of event. All others are dropped: the Messages API has no counterpart."""
