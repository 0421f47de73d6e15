"""Convert the texts of a conversation to span attributes: JSON in the form of the conventions, of limited length."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

from floway_core.protocol import jsontext
from floway_core.protocol.items import TOOL_OUTPUT_TYPES

CUT = "..."
"""The end of a text that is cut off."""

ROLES = {"developer": "system"}
TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""By the type of a part: the field with its text."""

CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""By the type of an item: the field with the input of the tool."""

Message = dict[str, Any]


def input_attributes(body: Mapping[str, Any], limit: int) -> dict[str, str]:
    """Return the attributes with the model's input.

    :param body: in the form of the Responses API.
    :param limit: bytes of each attribute.
    """
    attributes = {gen_ai.GEN_AI_INPUT_MESSAGES: _encode_newest(_messages(body.get("input") or ()), limit)}
    if isinstance(instructions := body.get("instructions"), str) and instructions:
        part = {"type": "text", "content": instructions}
        attributes[gen_ai.GEN_AI_SYSTEM_INSTRUCTIONS] = _encode_newest([part], limit)
    return attributes


def output_attributes(items: Iterable[Any], finish_reason: str | None, limit: int) -> dict[str, str]:
    """Return the attributes with the model's output; none if there are no items."""
    parts = [part for message in _messages(items) for part in message["parts"]]
    if not parts:
        return {}
    # The newest part first, because all parts are one message.
    newest = _newest_within(parts, limit - len(_encode(_answer([], finish_reason))))
    return {gen_ai.GEN_AI_OUTPUT_MESSAGES: _encode([_answer(newest, finish_reason)]).decode()}


def _answer(parts: list[Any], finish_reason: str | None) -> Message:
    return {"role": "assistant", "parts": parts, "finish_reason": finish_reason or "error"}


# ------------------------------------------------------------------------------------------------------------ messages
def _messages(items: Iterable[Any]) -> list[Message]:
    """Convert items to messages."""
    return [_message(item) for item in items if isinstance(item, Mapping)]


def _message(item: Mapping[str, Any]) -> Message:
    kind = str(item.get("type") or "message")
    if kind == "message":
        role = str(item.get("role") or "user")
        return {"role": ROLES.get(role, role), "parts": _parts(item.get("content"))}
    if field := CALLS.get(kind):
        call = {"type": "tool_call", "id": item.get("call_id"), "name": item.get("name"), "arguments": item.get(field)}
        return {"role": "assistant", "parts": [call]}
    if kind in TOOL_OUTPUT_TYPES:
        response = item.get("output")
        part = {"type": "tool_call_response", "id": item.get("call_id"), "response": _text_of(response)}
        return {"role": "tool", "parts": [part]}
    if kind == "reasoning":
        texts = [*_parts(item.get("summary")), *_parts(item.get("content"))]
        return {"role": "assistant", "parts": [{**part, "type": "reasoning"} for part in texts if "content" in part]}
    return {"role": "assistant", "parts": [{"type": kind}]}


def _parts(content: Any) -> list[dict[str, Any]]:
    """Return the parts of a message. Parts that are not text are reduced to their type."""
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(part) for part in content or () if isinstance(part, Mapping)]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(part.get("type") or "text")
    text = part.get(TEXTS.get(kind, "text"))
    return {"type": "text", "content": text} if isinstance(text, str) else {"type": kind}


def _text_of(output: Any) -> Any:
    """Return the output of a tool: its text, or its parts."""
    return output if isinstance(output, str) else _parts(output if isinstance(output, list) else ())


# -------------------------------------------------------------------------------------------------------------- limits
def _encode_newest(values: Sequence[Any], limit: int) -> str:
    return _encode(_newest_within(values, limit)).decode()


def _newest_within(values: Sequence[Any], limit: int) -> list[Any]:
    """Return the last values whose JSON has at most ``limit`` bytes; the first of them may be cut."""
    newest: list[Any] = []
    remaining = limit - len("[]")
    for value in reversed(values):
        size = len(_encode(value)) + len(",")
        if size > remaining:
            shortened = _shorten(value, max(0, remaining - _skeleton_size(value)))
            if len(_encode(shortened)) + len(",") <= remaining:
                newest.append(shortened)
            break
        newest.append(value)
        remaining -= size
    return newest[::-1]


def _skeleton_size(value: Any) -> int:
    """Return the size of a value with its texts cut to nothing."""
    return len(_encode(_shorten(value, 0))) + len(",")


def _shorten(value: Any, budget: int) -> Any:
    """Return a value whose long texts together have at most about ``budget`` bytes."""
    texts = max(1, _count_texts(value))
    return _shorten_each(value, budget // texts)


TEXT_FIELDS = ("content", "arguments", "response")


def _is_text(name: str, value: Any) -> bool:
    return isinstance(value, str) and name in TEXT_FIELDS


def _count_texts(value: Any) -> int:
    if isinstance(value, list):
        return sum(_count_texts(part) for part in value)
    if isinstance(value, dict):
        return sum(1 if _is_text(name, part) else _count_texts(part) for name, part in value.items())
    return 0


def _shorten_each(value: Any, size: int) -> Any:
    if isinstance(value, list):
        return [_shorten_each(part, size) for part in value]
    if isinstance(value, dict):
        return {
            name: _cut(part, size) if _is_text(name, part) else _shorten_each(part, size)
            for name, part in value.items()
        }
    return value


def _cut(text: str, size: int) -> str:
    """Return a text whose JSON has at most ``size`` bytes, without the quotes and ``CUT``."""
    short = text[: max(0, size)]
    while short and len(_encode(short)) - 2 > size:
        excess = len(_encode(short)) - 2 - size
        short = short[: len(short) - max(1, excess // 6)]
    return short if short == text else short + CUT


def _encode(value: Any) -> bytes:
    return jsontext.dumps(value)
