"""Convert output items of the Responses API to content blocks of the Messages API."""

from collections.abc import Mapping
from typing import Any

from floway_anthropic import search
from floway_core.protocol import jsontext
from floway_core.upstream.content import read_arguments

Block = dict[str, Any]


def tool_use_block(item: Mapping[str, Any], arguments: Any = None) -> Block:
    """Convert a call of a function.

    :param arguments: the parsed arguments; None for the block at the beginning of a stream, which has none.
    """
    call_id = item.get("call_id") or item.get("id") or ""
    return {"type": "tool_use", "id": str(call_id), "name": str(item.get("name") or ""), "input": arguments or {}}


def text_block(part: Mapping[str, Any]) -> Block | None:
    """Convert a part of a message; None if it has no text."""
    text = part.get("text") if part.get("type") != "refusal" else part.get("refusal")
    if not isinstance(text, str) or not text:
        return None
    block: Block = {"type": "text", "text": text}
    if citations := [citation for annotation in annotations(part) if (citation := search.citation(annotation, text))]:
        block["citations"] = citations  # never null, which some clients refuse
    return block


def annotations(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations of a part."""
    values = part.get("annotations")
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def parts(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a message."""
    content = item.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def encode_json(value: Any) -> str:
    """Return a value as JSON."""
    return jsontext.dumps(value).decode()


def encode_input(item: Mapping[str, Any]) -> str:
    """Return the arguments for a call of a freeform tool, which clients of the Messages API know as a function."""
    return encode_json(read_arguments(item) or {})
