"""Convert items of the Responses API to ``contents`` of the generateContent API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.protocol.items import TOOL_CALL_TYPES, TOOL_OUTPUT_TYPES, as_items
from floway_core.upstream.content import ContentConverter, read_arguments, split_data_url
from floway_gemini import thoughts
from floway_gemini.upstream.pass_through import MISSING_SIGNATURE, needs_signatures

Part = dict[str, Any]

PDF = "application/pdf"
MISSING_OUTPUT = "The call was not answered."
CONTINUE = "Continue."
"""The user message where the API demands one and the client has sent none."""
INSTRUCTIONS = "<system-reminder>\n{}\n</system-reminder>"
"""Instructions in the middle of a conversation, for models that accept them only inside of a user message."""
IMAGE_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}


@dataclass
class Conversation:
    """The converted items."""

    instructions: list[str] = field(default_factory=list)
    contents: list[dict[str, Any]] = field(default_factory=list)

    def add(self, role: str, *parts: Part) -> None:
        """Add parts to the last content if it has the same role, else a new content."""
        if not parts:
            return
        if not self.contents or self.contents[-1]["role"] != role:
            self.contents.append({"role": role, "parts": []})
        self.contents[-1]["parts"] += parts

    def complete(self) -> None:
        """Make the conversation start and end with the user. The model would continue its own content at the end."""
        if self.contents and self.contents[0]["role"] != "user":
            self.contents.insert(0, {"role": "user", "parts": [_text(CONTINUE)]})
        if not self.contents or self.contents[-1]["role"] != "user":
            self.add("user", _text(CONTINUE))


def convert_items(instructions: Any, client_input: Any, model: str) -> Conversation:
    """Convert instructions and input items.

    The responses to all calls of a content are placed at the start of the next one. Outputs without a call become text,
    and calls without an output get ``MISSING_OUTPUT``.

    :param model: the name that the upstream uses.
    :raises GatewayError: 400, an item holds what this API cannot express.
    """
    items = as_items(client_input or [])
    conversation = Conversation()
    if isinstance(instructions, str) and instructions.strip():
        conversation.instructions.append(instructions)
    converter = _ItemConverter(conversation, items, needs_signatures(model))
    for index, item in enumerate(items):
        converter.add(item, f"input[{index}]")
    converter.answer_calls()
    conversation.complete()
    return conversation


class _ItemConverter:
    """Converts item by item."""

    def __init__(self, conversation: Conversation, items: Sequence[Mapping[str, Any]], needs_signatures: bool) -> None:
        self._conversation = conversation
        self._needs_signatures = needs_signatures
        self._outputs: dict[str, tuple[Mapping[str, Any], str]] = {}
        """The first output of each call that is not in a content yet, and its path."""
        for index, item in enumerate(items):
            if item.get("type") in TOOL_OUTPUT_TYPES:
                self._outputs.setdefault(str(item.get("call_id")), (item, f"input[{index}]"))
        self._open_calls: list[tuple[str, str]] = []
        """Id and name of the calls in the current content."""
        self._signature: str | None = None
        """The signature for the next call."""

    def add(self, item: Mapping[str, Any], path: str) -> None:
        """Add an item."""
        kind = item.get("type", "message")
        if kind == "message":
            self._add_message(item, path)
        elif kind in TOOL_CALL_TYPES:
            self._add_call(item)
        elif kind in TOOL_OUTPUT_TYPES:
            self._add_output(item, path)
        elif kind == "reasoning":
            self._add_reasoning(item)

    def _add_reasoning(self, item: Mapping[str, Any]) -> None:
        """Add the signature of an item. Reasoning from other kinds of upstreams is dropped."""
        decoded = thoughts.decode_part_signature(item.get("encrypted_content"))
        if decoded is None:
            return
        signature, is_call = decoded
        if is_call:
            self._signature = signature
        else:
            self._conversation.add("model", {"text": "", "thoughtSignature": signature})

    def _add_call(self, item: Mapping[str, Any]) -> None:
        call_id, name = str(item.get("call_id")), str(item.get("name"))
        part: Part = {"functionCall": {"id": call_id, "name": name, "args": read_arguments(item) or {}}}
        is_first = not self._open_calls
        self._open_calls.append((call_id, name))
        if self._signature:
            part["thoughtSignature"], self._signature = self._signature, None
        elif is_first and self._needs_signatures:
            part["thoughtSignature"] = MISSING_SIGNATURE
        self._conversation.add("model", part)

    def _add_output(self, item: Mapping[str, Any], path: str) -> None:
        self.answer_calls()
        call_id = str(item.get("call_id"))
        if call_id in self._outputs and self._outputs[call_id][0] is item:  # an output without its call
            del self._outputs[call_id]
            self._conversation.add(
                "user", _text("The output of a tool:"), *_CONTENT.convert(item.get("output"), f"{path}.output")
            )

    def _add_message(self, item: Mapping[str, Any], path: str) -> None:
        role, parts = item.get("role"), _CONTENT.convert(item.get("content"), f"{path}.content")
        if role == "assistant":
            self._conversation.add("model", *parts)
            return
        self.answer_calls()
        texts = [part["text"] for part in parts if "text" in part]
        if role == "user":
            self._conversation.add("user", *parts)
        elif not self._conversation.contents:
            self._conversation.instructions += texts
        else:
            self._conversation.add("user", *(_text(INSTRUCTIONS.format(text)) for text in texts))

    def answer_calls(self) -> None:
        """Add the responses of the calls since the last content of the user."""
        for call_id, name in self._open_calls:
            item, path = self._outputs.pop(call_id, ({"output": MISSING_OUTPUT}, ""))
            parts = _CONTENT.convert(item.get("output"), f"{path}.output")
            output = "\n".join(part["text"] for part in parts if "text" in part)
            response = {"id": call_id, "name": name, "response": {"output": output}}
            self._conversation.add(
                "user", {"functionResponse": response}, *(part for part in parts if "text" not in part)
            )
        self._open_calls = []


# -------------------------------------------------------------------------------------------------------------- parts
def _text(text: str) -> Part:
    return {"text": text}


def _text_part(text: str) -> Part | None:
    return _text(text) if text else None


def _image(url: str) -> Part:
    ending = url.partition("?")[0].lower()
    return _data(url, next((kind for end, kind in IMAGE_TYPES.items() if ending.endswith(end)), "image/jpeg"))


def _file(url: str, name: str | None) -> Part:
    return _data(url if ":" in url[:12] else f"data:{PDF};base64,{url}", PDF)


def _data(url: str, media_type: str) -> Part:
    """Return the part for a URL, which may be a ``data:`` URL.

    :param media_type: used if the URL is not a ``data:`` URL.
    """
    if content := split_data_url(url):
        return {"inlineData": {"mimeType": content[0], "data": content[1]}}
    return {"fileData": {"mimeType": media_type, "fileUri": url}}


_CONTENT = ContentConverter("the generateContent API", text=_text_part, image=_image, file=_file)
