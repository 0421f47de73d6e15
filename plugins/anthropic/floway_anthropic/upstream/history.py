"""Convert items of the Responses API to ``system`` and ``messages`` of the Messages API."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_core.protocol import signatures
from floway_core.protocol.items import TOOL_CALL_TYPES, TOOL_OUTPUT_TYPES, as_items
from floway_core.upstream.content import ContentConverter, read_arguments, split_data_url

Block = dict[str, Any]

THINKING = "thinking"
"""The kind of encrypted contents with a thinking block of the upstream."""

PDF = "application/pdf"
MISSING_OUTPUT = "The call was not answered."
CONTINUE = "Continue."
"""The user message where the API demands one and the client has sent none."""
INSTRUCTIONS = "<system-reminder>\n{}\n</system-reminder>"
"""Instructions in the middle of a conversation, for models that accept them only inside of a user message."""

_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass
class Conversation:
    """The converted items."""

    system: list[Block] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)

    def add(self, role: str, *blocks: Block) -> None:
        """Add blocks to the last message if it has the same role, else a new message."""
        if not blocks:
            return
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
        self.messages[-1]["content"] += blocks

    def complete(self) -> None:
        """Make the conversation start and end with a user message. The Messages API refuses instructions alone. It
        continues or refuses an assistant message at the end, instead of answering."""
        if self.messages and self.messages[0]["role"] != "user":
            self.messages.insert(0, {"role": "user", "content": [_text(CONTINUE)]})
        if self.messages or self.system:
            self.add("user", *([] if self._ends_with_user() else [_text(CONTINUE)]))

    def _ends_with_user(self) -> bool:
        return bool(self.messages) and self.messages[-1]["role"] == "user"


def encode_thinking(block: Mapping[str, Any]) -> str:
    """Return the ``encrypted_content`` for a thinking block of the upstream. It contains text and signature."""
    return signatures.encode(THINKING, dict(block))


def decode_thinking(encrypted: Any) -> Block | None:
    """Return the thinking block; None if the content comes from another kind of upstream."""
    block = signatures.decode(THINKING, encrypted)
    return block if isinstance(block, dict) else None


def to_call_id(value: Any) -> str:
    """Return an id for a call that the Messages API accepts. Equal ids stay equal."""
    text = str(value)
    if _CALL_ID.fullmatch(text):
        return text
    return f"call_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def convert_items(instructions: Any, client_input: Any) -> Conversation:
    """Convert instructions and input items.

    The Messages API demands the results of all calls of a message at the start of the next message. Results without a
    call become text, and calls without a result get ``MISSING_OUTPUT``.

    :raises GatewayError: 400, an item holds what the Messages API cannot express.
    """
    items = as_items(client_input or [])
    conversation = Conversation()
    if isinstance(instructions, str) and instructions.strip():
        conversation.system.append(_text(instructions))
    converter = _ItemConverter(conversation, items)
    for index, item in enumerate(items):
        converter.add(item, f"input[{index}]")
    converter.answer_calls()
    conversation.complete()
    return conversation


class _ItemConverter:
    """Converts item by item."""

    def __init__(self, conversation: Conversation, items: Sequence[Mapping[str, Any]]) -> None:
        self._conversation = conversation
        self._outputs: dict[str, tuple[Mapping[str, Any], str]] = {}
        """The first output of each call that is not in a message yet, and its path."""
        for index, item in enumerate(items):
            if item.get("type") in TOOL_OUTPUT_TYPES:
                self._outputs.setdefault(str(item.get("call_id")), (item, f"input[{index}]"))
        self._open_calls: list[str] = []

    def add(self, item: Mapping[str, Any], path: str) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            self._add_message(item, path)
        elif kind in TOOL_CALL_TYPES:
            self._open_calls.append(str(item.get("call_id")))
            self._conversation.add("assistant", _tool_use(item))
        elif kind in TOOL_OUTPUT_TYPES:
            self._add_output(item, path)
        elif kind == "reasoning" and (block := decode_thinking(item.get("encrypted_content"))):
            self._conversation.add("assistant", block)

    def _add_message(self, item: Mapping[str, Any], path: str) -> None:
        blocks = _CONTENT.convert(item.get("content"), f"{path}.content")
        role = item.get("role")
        if role == "assistant":
            self._conversation.add("assistant", *blocks)
            return
        self.answer_calls()
        if role == "user":
            self._conversation.add("user", *blocks)
        elif not self._conversation.messages:
            self._conversation.system += blocks
        else:
            texts = (block.get("text", "") for block in blocks)
            self._conversation.add("user", *(_text(INSTRUCTIONS.format(text)) for text in texts))

    def _add_output(self, item: Mapping[str, Any], path: str) -> None:
        self.answer_calls()
        call_id = str(item.get("call_id"))
        if call_id in self._outputs and self._outputs[call_id][0] is item:  # an output without its call
            del self._outputs[call_id]
            blocks = _CONTENT.convert(item.get("output"), f"{path}.output")
            self._conversation.add("user", _text("The output of a tool:"), *blocks)

    def answer_calls(self) -> None:
        """Add the results of the calls since the last message of the user."""
        for call_id in self._open_calls:
            item, path = self._outputs.pop(call_id, ({"output": MISSING_OUTPUT}, ""))
            blocks = _CONTENT.convert(item.get("output"), f"{path}.output")
            result = {"type": "tool_result", "tool_use_id": to_call_id(call_id), "content": blocks}
            self._conversation.add("user", result)
        self._open_calls = []


# ------------------------------------------------------------------------------------------------------------- blocks
def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _tool_use(item: Mapping[str, Any]) -> Block:
    return {
        "type": "tool_use",
        "id": to_call_id(item.get("call_id")),
        "name": str(item.get("name")),
        "input": read_arguments(item) or {},
    }


def _text_block(text: str) -> Block | None:
    """Convert a text; None if it is blank: "text content blocks must contain non-whitespace text"."""
    return _text(text) if text.strip() else None


def _image(url: str) -> Block:
    return {"type": "image", "source": _source(url)}


def _document(url: str, name: str | None) -> Block:
    source = _source(url) if ":" in url[:12] else {"type": "base64", "media_type": PDF, "data": url}
    if source["type"] == "base64" and source["media_type"] != PDF:
        source = _text_source(source["data"]) or source
    return {"type": "document", "source": source, **({} if name is None else {"title": name})}


def _source(url: str) -> dict[str, str]:
    if content := split_data_url(url):
        return {"type": "base64", "media_type": content[0], "data": content[1]}
    return {"type": "url", "url": url}


def _text_source(data: str) -> dict[str, str] | None:
    """Return the source for a text file; None for another file. The API accepts only PDF as base64."""
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"type": "text", "media_type": "text/plain", "data": text}


_CONTENT = ContentConverter("the Messages API", text=_text_block, image=_image, file=_document)
