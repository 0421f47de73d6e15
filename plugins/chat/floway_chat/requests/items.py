"""Convert the items of a Responses request to chat messages."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from floway_chat import reasoning
from floway_chat.quirks import Quirks
from floway_chat.requests.tools import call_id, write_call
from floway_core.errors import GatewayError
from floway_core.protocol import jsontext
from floway_core.protocol.items import TOOL_CALL_TYPES, TOOL_OUTPUT_TYPES

ATTACHMENTS = ("input_image", "input_file")
"""Types of the parts of an output that are not text."""
INSTRUCTION_ROLES = ("system", "developer")

Message = dict[str, Any]


def write_messages(instructions: Any, items: list[dict[str, Any]], quirks: Quirks) -> list[Message]:
    """Convert instructions and input items. Items of types without a counterpart are left out.

    Reasoning, text and calls of one turn become one assistant message, and the outputs follow directly, as servers
    demand. Instructions at the start become one message.

    :raises GatewayError: 400, a part of a message has no counterpart.
    """
    writer = _MessageWriter(items, quirks)
    if isinstance(instructions, str) and instructions:
        writer.add_instructions(instructions)
    for position, item in enumerate(items):
        writer.add(item, position)
    writer.flush()
    return writer.messages


class _MessageWriter:
    """Collects the messages. Items are added to the assistant message until it is flushed."""

    def __init__(self, items: list[dict[str, Any]], quirks: Quirks) -> None:
        self.messages: list[Message] = []
        self._quirks = quirks
        self._turn: Message = {}
        """The message of the assistant; empty if there is none."""
        self._thoughts: list[str] = []
        self._outputs: dict[str, deque[tuple[int, dict[str, Any]]]] = defaultdict(deque)
        """The outputs that are not written yet, with their positions, by call id."""
        self._written: set[int] = set()
        """Positions of outputs that have been written after their call."""
        self._answered: set[str] = set()
        """The ids of these calls."""
        for position, item in enumerate(items):
            if item.get("type") in TOOL_OUTPUT_TYPES:
                self._outputs[call_id(item)].append((position, item))

    def add(self, item: Mapping[str, Any], position: int) -> None:
        """Add an item.

        :param position: in ``input``.
        """
        kind = item.get("type")
        if kind == "reasoning":
            self._add_reasoning(item)
        elif kind in TOOL_CALL_TYPES:
            self._turn.setdefault("tool_calls", []).append(write_call(item, self._quirks.custom_tools))
        elif kind in TOOL_OUTPUT_TYPES:
            self.flush()
            if position not in self._written:
                self._outputs[call_id(item)].popleft()
                if call_id(item) not in self._answered:  # else it is a repetition, which servers refuse
                    self._add_outputs([item])
        elif "role" in item and item.get("type", "message") == "message":  # items of other types may have a role, too
            self._add_message(item, f"input[{position}]")

    def add_instructions(self, text: str) -> None:
        """Add instructions: to the first message, or as a message."""
        if not self.messages:
            self.messages.append({"role": "system", "content": text})
        elif len(self.messages) == 1 and self.messages[0]["role"] == "system":
            self.messages[0]["content"] += f"\n\n{text}"
        else:
            self.messages.append({"role": self._quirks.instructions, "content": text})

    def flush(self) -> None:
        """Close the message of the assistant, and add the outputs of its calls."""
        turn, self._turn = self._turn, {}
        reasoning, self._thoughts = "\n\n".join(self._thoughts), []
        if not turn:
            return
        message = {"role": "assistant", "content": turn.get("content"), **turn}
        if reasoning and self._quirks.reasoning:
            message[self._quirks.reasoning] = reasoning
        self.messages.append(message)
        answers = []
        for call in turn.get("tool_calls", ()):
            if outputs := self._outputs.get(call["id"]):
                position, output = outputs.popleft()
                self._written.add(position)
                self._answered.add(call["id"])
                answers.append(output)
        self._add_outputs(answers)

    def _add_reasoning(self, item: Mapping[str, Any]) -> None:
        if self._turn.get("tool_calls"):  # the reasoning of the next turn
            self.flush()
        if text := reasoning.item_text(item):
            self._thoughts.append(text)

    def _add_message(self, item: Mapping[str, Any], path: str) -> None:
        role, content = item["role"], item.get("content")
        if role == "assistant":
            if self._turn.get("tool_calls"):
                self.flush()
            self._turn["content"] = (self._turn.get("content") or "") + _plain_text(content)
            return
        self.flush()
        if role in INSTRUCTION_ROLES:
            self.add_instructions(_plain_text(content))
        else:
            self.messages.append({"role": "user", "content": _write_content(content, path)})

    def _add_outputs(self, outputs: Iterable[Mapping[str, Any]]) -> None:
        attachments: list[dict[str, Any]] = []
        for output in outputs:
            self._add_output(output, attachments)
        if attachments:
            self.messages.append({"role": "user", "content": attachments})

    def _add_output(self, item: Mapping[str, Any], attachments: list[dict[str, Any]]) -> None:
        """Add the output of a call. Its images and files follow in a user message: tool messages contain only text."""
        output = item.get("output")
        if isinstance(output, list):
            attachments += [_write_part(part, "input") for part in output if _type_of(part) in ATTACHMENTS]
            text = _plain_text(output)
        else:
            text = output if isinstance(output, str) else jsontext.dumps(output).decode()
        self.messages.append({"role": "tool", "tool_call_id": call_id(item), "content": text})


# ------------------------------------------------------------------------------------------------------------- parts
def _type_of(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) else ""


def _plain_text(content: Any) -> str:
    """Return the text of a content, refusals included."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part.get("text") if part.get("text") is not None else part.get("refusal") for part in parts]
    return "".join(text for text in texts if isinstance(text, str))


def _write_content(content: Any, path: str) -> str | list[dict[str, Any]]:
    """Write the content of a user message: a single text as a string, else parts."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [_write_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return str(parts[0]["text"])
    return parts or ""  # many servers refuse an empty list


def _write_part(part: Any, path: str) -> dict[str, Any]:
    kind = _type_of(part)
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": str(part.get("text") or "")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = part.get("detail")
        detail = "high" if detail == "original" else detail  # "original" exists only in the Responses API
        image = {"url": part["image_url"], **({"detail": detail} if detail not in (None, "auto") else {})}
        return {"type": "image_url", "image_url": image}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    if kind == "input_file" and not part.get("file_url"):
        names = ("file_id", "filename", "file_data")
        return {"type": "file", "file": {name: part[name] for name in names if part.get(name) is not None}}
    message = f"The upstream speaks Chat Completions, which cannot express this part ({kind[:64] or 'no type'})."
    raise GatewayError(400, message, param=path, code="unsupported_value")
