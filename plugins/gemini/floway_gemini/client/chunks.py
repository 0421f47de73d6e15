"""Build the chunks of an answer: parts, candidates and the object around them."""

from collections.abc import Mapping
from typing import Any

from floway_core.upstream.content import read_arguments
from floway_gemini import usage
from floway_gemini.client.view import ClientView

Part = dict[str, Any]

_INCOMPLETE = {"max_output_tokens": "MAX_TOKENS", "content_filter": "SAFETY"}
"""``incomplete_details.reason`` of a response -> ``finishReason``; others are ``OTHER``."""


def answer(
    view: ClientView,
    parts: list[Part],
    *,
    finish_reason: str | None = None,
    grounding: Mapping[str, Any] | None = None,
    counts: Any = None,
) -> dict[str, Any]:
    """Return an answer, or a chunk of one.

    :param finish_reason: why the model stopped; None if it has not.
    :param counts: ``usage`` of the response; used only with a finish reason.
    """
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if finish_reason:
        candidate["finishReason"] = finish_reason
    candidate["index"] = 0
    if grounding:
        candidate["groundingMetadata"] = grounding
    metadata = {"usageMetadata": usage.to_metadata(counts)} if finish_reason else {}
    return {"candidates": [candidate], **metadata, "modelVersion": view.model, "responseId": view.response_id}


def finish_reason_of(response: Mapping[str, Any], *, is_malformed: bool, is_refused: bool) -> str:
    """Return why the model stopped.

    :param is_malformed: whether a call was dropped because its arguments are not a JSON object.
    :param is_refused: whether the model refused to answer.
    """
    if response.get("status") == "incomplete":
        details = response.get("incomplete_details")
        return _INCOMPLETE.get(str(details.get("reason")) if isinstance(details, dict) else "", "OTHER")
    if is_malformed:
        return "MALFORMED_FUNCTION_CALL"
    return "SAFETY" if is_refused else "STOP"


def call_part(item: Mapping[str, Any], view: ClientView) -> Part | None:
    """Convert a call of a function; None if its arguments are not a JSON object (they may have been cut off)."""
    arguments = read_arguments(item)
    if arguments is None:
        return None
    name, call_id = str(item.get("name") or ""), str(item.get("call_id") or item.get("id") or "")
    return {"functionCall": {"id": call_id, "name": view.names.get(name, name), "args": arguments}}


def image_part(item: Mapping[str, Any]) -> Part | None:
    """Convert a generated image; None if the item has none."""
    data = item.get("result")
    kind = item.get("output_format")
    kind = kind if isinstance(kind, str) and kind else "png"
    return {"inlineData": {"mimeType": f"image/{kind}", "data": data}} if isinstance(data, str) and data else None


def thought_texts(item: Mapping[str, Any]) -> list[str]:
    """Return the readable texts of a reasoning item: of its summary, or else of its content."""
    for name in ("summary", "content"):
        values = item.get(name)
        parts = [part for part in values if isinstance(part, dict)] if isinstance(values, list) else []
        if texts := [text for part in parts if isinstance(text := part.get("text"), str) and text]:
            return texts
    return []
