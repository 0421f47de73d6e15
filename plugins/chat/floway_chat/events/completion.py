"""Convert a response object to a chat completion, and the parts of it that streams have too."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from floway_chat import reasoning
from floway_chat.events.options import AnswerOptions
from floway_core.protocol.items import TOOL_CALL_TYPES
from floway_core.protocol.stop_sequences import StopScanner, cut_at_stop
from floway_core.protocol.usage import complete_usage

FINISH_OF_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""By the reason why a response is incomplete: ``finish_reason``."""

NO_DETAILS = {"audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}


def build_completion(response: Mapping[str, Any], options: AnswerOptions) -> dict[str, Any]:
    """Convert a complete Responses object to a chat completion."""
    items = _until_stop([item for item in response.get("output") or () if isinstance(item, dict)], options.stop)
    message, stop_sequence = _build_message(items, options)
    logprobs = [entry for part in _parts(items) for entry in part.get("logprobs") or ()] if options.logprobs else []
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": list(map(convert_logprob, logprobs)), "refusal": None} if logprobs else None,
        "finish_reason": finish_reason(response, items, options, stop_sequence is not None),
    }
    return {**build_envelope(response, options, "chat.completion"), "choices": [choice], **usage_field(response)}


def build_envelope(response: Mapping[str, Any], options: AnswerOptions, kind: str) -> dict[str, Any]:
    """Return the fields around the choices.

    :param kind: the value of ``object``.
    """
    created_at, model = response.get("created_at"), response.get("model")
    envelope = {
        "id": options.id,
        "object": kind,
        "created": int(created_at) if isinstance(created_at, int | float) else int(time.time()),
        "model": model if isinstance(model, str) and model else options.model,
        "system_fingerprint": response.get("system_fingerprint") or options.system_fingerprint,
    }
    tier = response.get("service_tier")
    return {**envelope, "service_tier": tier} if isinstance(tier, str) else envelope


def usage_field(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field ``usage`` of an answer; empty if the upstream has sent no usage."""
    usage = complete_usage(response.get("usage"))
    if usage is None:
        return {}
    input_details = {name: usage["input_tokens_details"][name] for name in ("cached_tokens", "cache_write_tokens")}
    reasoning_tokens = usage["output_tokens_details"]["reasoning_tokens"]
    return {
        "usage": {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
            "prompt_tokens_details": {**input_details, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning_tokens, **NO_DETAILS},
        }
    }


def finish_reason(
    response: Mapping[str, Any], items: Iterable[Mapping[str, Any]], options: AnswerOptions, is_stopped: bool
) -> str:
    """Return why the answer ends.

    :param is_stopped: whether a stop sequence has ended it.
    """
    if response.get("status") == "incomplete" and not is_stopped:
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return FINISH_OF_INCOMPLETE.get(str(reason), "length")
    if any(item.get("type") in TOOL_CALL_TYPES for item in items):
        return "function_call" if options.uses_functions else "tool_calls"
    return "stop"


def build_call(item: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the item of a call to an entry of ``tool_calls``."""
    call_id, name = item.get("call_id") or item.get("id") or "", item.get("name") or ""
    if item.get("type") == "custom_tool_call":
        return {"id": call_id, "type": "custom", "custom": {"name": name, "input": item.get("input") or ""}}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": item.get("arguments") or ""}}


def convert_annotation(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the citation of a web page, nested as in Chat Completions."""
    fields = {name: annotation.get(name) for name in ("start_index", "end_index", "title", "url")}
    return {"type": "url_citation", "url_citation": fields}


def convert_logprob(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Add the bytes of the token to a log probability; streams of the Responses API omit them."""
    alternatives = [
        _with_bytes(alternative) for alternative in entry.get("top_logprobs") or () if isinstance(alternative, dict)
    ]
    return {**_with_bytes(entry), "top_logprobs": alternatives}


def citations(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the citations in the parts of a message."""
    return [
        convert_annotation(annotation)
        for part in parts
        for annotation in part.get("annotations") or ()
        if isinstance(annotation, dict) and annotation.get("type") == "url_citation"
    ]


def message_parts(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a message item."""
    content = item.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _build_message(items: list[dict[str, Any]], options: AnswerOptions) -> tuple[dict[str, Any], str | None]:
    """Build the message of the assistant.

    :returns: the message, and the stop sequence that has ended its text, if any.
    """
    parts = list(_parts(items))
    texts = [str(part.get("text") or "") for part in parts if part.get("type") == "output_text"]
    refusals = [str(part.get("refusal") or "") for part in parts if part.get("type") == "refusal"]
    text, stop_sequence = cut_at_stop("".join(texts), options.stop)
    calls = [build_call(item) for item in items if item.get("type") in TOOL_CALL_TYPES]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) or None,
        "annotations": citations(parts),
    }
    if calls and options.uses_functions:
        message["function_call"] = calls[0].get("function")
    elif calls:
        message["tool_calls"] = calls
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    if thought := "\n\n".join(filter(None, map(reasoning.item_text, thoughts))):
        message["reasoning_content"] = thought
    if details := [detail for item in thoughts for detail in reasoning.write_details(item)]:
        message["reasoning_details"] = details
    return message, stop_sequence


def _until_stop(items: list[dict[str, Any]], sequences: Sequence[str]) -> list[dict[str, Any]]:
    """Return the items up to the one with a stop sequence, which ends the answer."""
    if not sequences:
        return items
    scanner = StopScanner(sequences)
    for position, item in enumerate(items):
        for part in _parts([item]):
            scanner.feed(str(part.get("text") or ""))
        if scanner.match is not None:
            return items[: position + 1]
    return items


def _parts(items: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    return (part for item in items if item.get("type") == "message" for part in message_parts(item))


def _with_bytes(entry: Mapping[str, Any]) -> dict[str, Any]:
    token = str(entry.get("token") or "")
    tokens = entry.get("bytes")
    if not isinstance(tokens, list):
        tokens = list(token.encode("utf-8", "surrogatepass"))
    return {"token": token, "bytes": tokens, "logprob": entry.get("logprob")}
