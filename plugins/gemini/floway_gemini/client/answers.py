"""Convert a complete response object of the Responses API to an answer of the generateContent API."""

from typing import Any

from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_gemini import grounding, thoughts
from floway_gemini.client import texts
from floway_gemini.client.chunks import Part, answer, call_part, finish_reason_of, image_part, thought_texts
from floway_gemini.client.view import ClientView

Item = dict[str, Any]


def to_answer(response: dict[str, Any], view: ClientView) -> dict[str, Any]:
    """Convert a response object."""
    output = response.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    converter = _ItemConverter(view)
    for item in items:
        converter.add(item)
    reason = finish_reason_of(response, is_malformed=converter.is_malformed, is_refused=converter.is_refused)
    return answer(
        view,
        converter.finish(),
        finish_reason="STOP" if converter.has_stopped else reason,
        grounding=grounding.to_metadata(items),
        counts=response.get("usage"),
    )


class _ItemConverter:
    """Converts item by item, up to a stop sequence."""

    def __init__(self, view: ClientView) -> None:
        self._view = view
        self._parts: list[Part] = []
        self._reasoning: list[Item] = []
        """Reasoning items for the signature of the next part."""
        self.is_malformed = self.is_refused = self.has_stopped = False

    def add(self, item: Item) -> None:
        """Add an item."""
        kind = item.get("type")
        if self.has_stopped:
            return
        if kind == "reasoning":
            self._reasoning.append(item)
            if self._view.shows_thoughts:
                self._parts += [{"text": text, "thought": True} for text in thought_texts(item)]
        elif kind == "message":
            for text in grounding.parts(item):
                self._add_text(text)
        elif kind in TOOL_CALL_TYPES:
            part = call_part(item, self._view)
            self.is_malformed = self.is_malformed or part is None
            self._add(part)
        elif kind == "image_generation_call":
            self._add(image_part(item))

    def finish(self) -> list[Part]:
        """Return the parts, at least one."""
        if self._reasoning or not any(not part.get("thought") for part in self._parts):
            self._add({"text": ""})
        return self._parts

    def _add_text(self, part: Item) -> None:
        self.is_refused = self.is_refused or part.get("type") == "refusal"
        text, is_stopped = texts.cut_visible(grounding.part_text(part), self._view)
        self.has_stopped = self.has_stopped or is_stopped
        if text:
            self._add({"text": text})

    def _add(self, part: Part | None) -> None:
        if part is None:
            return
        if self._reasoning:
            part = {**part, "thoughtSignature": thoughts.encode_items(self._reasoning)}
            self._reasoning = []
        self._parts.append(part)
