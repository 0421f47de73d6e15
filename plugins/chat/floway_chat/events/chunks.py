"""Parse the chunks of a chat server's stream, many at a time, and read their fields."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from floway_chat import reasoning
from floway_core.protocol import jsontext, sse
from floway_core.protocol.failures import Failure, read_failure
from floway_core.protocol.responses import COMPLETED, FAILED, INCOMPLETE
from floway_core.protocol.usage import complete_usage

DONE = b"[DONE]"

_DATA_LINE = re.compile(rb"^(?:data|error): ?(.*)$", re.MULTILINE)
"""A line of data, with the ``\\r`` at its end if there is one: JSON ignores it, and a lazy match costs four times
as much. Older versions of llama.cpp send an error as a line ``error: {...}``."""

_TERMINAL_OF_FINISH = {
    "length": (INCOMPLETE, "max_output_tokens"),
    "max_output_tokens": (INCOMPLETE, "max_output_tokens"),
    "max_tokens": (INCOMPLETE, "max_output_tokens"),
    "model_length": (INCOMPLETE, "max_output_tokens"),
    "content_filter": (INCOMPLETE, "content_filter"),
    "content_filtered": (INCOMPLETE, "content_filter"),
    "prohibited_content": (INCOMPLETE, "content_filter"),
    "recitation": (INCOMPLETE, "content_filter"),
    "safety": (INCOMPLETE, "content_filter"),
    "sensitive": (INCOMPLETE, "content_filter"),
    "abort": (FAILED, None),
    "error": (FAILED, None),
    "insufficient_system_resource": (FAILED, None),
}
"""By ``finish_reason`` in lower case: the result of ``find_terminal``. All others mean that the answer is complete.

Servers in front of other APIs use the reasons of those APIs.
"""

_VALUES_OF_CONSTANTS = {"-Infinity": -9999.0}
"""Replacements of numbers that JSON does not have; all others become null. OpenAI's API uses this log probability for
very unlikely tokens."""

_CACHED_FIELDS = ("prompt_cache_hit_tokens", "cached_tokens")
"""Where DeepSeek and Moonshot count the cached tokens."""


def find_terminal(finish: str | None) -> tuple[str, str | None]:
    """Return the terminal event for a ``finish_reason``, and why the response is incomplete."""
    return _TERMINAL_OF_FINISH.get((finish or "").lower(), (COMPLETED, None))


def parse_json(data: bytes) -> Any:
    """Parse JSON as servers write it: also with ``NaN``, and with bytes that are not UTF-8.

    A chunk must not be lost because of a number that nobody reads.

    :raises ValueError: it is still not JSON, or is nested too deeply.
    """
    try:
        return jsontext.loads(data)
    except ValueError:
        try:
            value = json.loads(data.decode("utf-8", "replace"), parse_constant=_VALUES_OF_CONSTANTS.get)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if jsontext.is_too_deep(value):
            raise
        return value


def parse_chunks(block: bytes) -> tuple[list[dict[str, Any]], bool]:
    """Parse complete events.

    :returns: the chunks, and whether ``[DONE]`` has followed them. Data that are not a JSON object are dropped.
    """
    data = _DATA_LINE.findall(block)
    ends = [number for number, line in enumerate(data) if line.rstrip() == DONE] if DONE in block else []
    if ends:
        data = data[: ends[0]]
    try:
        values = orjson.loads(b"[%b]" % b",".join(data))
    except orjson.JSONDecodeError:
        values = []
    if len(values) != len(data):
        values = _parse_singly(block)
    return [value for value in values if isinstance(value, dict)], bool(ends)


def _parse_singly(block: bytes) -> list[Any]:
    """Parse events one by one, because one has several lines of data, or no JSON."""
    values = []
    for event in sse.split(block):
        try:
            values.append(parse_json(sse.parse(event)[1]))
        except ValueError:
            continue
    return values


_TEXT_FIELDS = frozenset({"content", "role"})


def plain_text(chunk: Mapping[str, Any]) -> str:
    """Return the text of a chunk that contains nothing else; empty for any other chunk."""
    choices = chunk.get("choices")
    if type(choices) is not list or len(choices) != 1 or chunk.get("usage") or chunk.get("error"):
        return ""
    choice = choices[0]
    if type(choice) is not dict or choice.get("finish_reason") or choice.get("index") or choice.get("logprobs"):
        return ""
    delta = choice.get("delta")
    if type(delta) is not dict or not delta.keys() <= _TEXT_FIELDS:
        return ""
    content = delta.get("content")
    return content if type(content) is str else ""


def find_failure(value: Mapping[str, Any]) -> Failure | None:
    """Return the failure that a chunk, or a whole answer, reports."""
    if value.get("error") or value.get("object") == "error" or "choices" not in value:
        return read_failure(value)
    return None


def first_choice(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first choice, the only one that the gateway requests; empty if a chunk has none."""
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return {}


def read_usage(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the usage in a chunk or a complete answer, in the form of the Responses API."""
    objects = (value, value.get("x_groq"), first_choice(value))
    for candidate in objects:
        usage = candidate.get("usage") if isinstance(candidate, Mapping) else None
        if isinstance(usage, dict) and (complete := complete_usage(usage)):
            return _in_responses_form(complete)
    return None


def _in_responses_form(usage: dict[str, Any]) -> dict[str, Any]:
    names = ("input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens")
    result = {name: usage[name] for name in names}
    cached = next((usage[name] for name in _CACHED_FIELDS if isinstance(usage.get(name), int)), 0)
    details = result["input_tokens_details"]
    result["input_tokens_details"] = {**details, "cached_tokens": details["cached_tokens"] or cached}
    return result


def read_logprobs(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the log probabilities of a choice. Both APIs have the same entries."""
    logprobs = choice.get("logprobs")
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def read_citations(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the citations of web pages in a delta or a message, flattened as in the Responses API."""
    annotations = message.get("annotations")
    return [
        {"type": "url_citation", **annotation["url_citation"]}
        for annotation in (annotations if isinstance(annotations, list) else ())
        if isinstance(annotation, dict) and isinstance(annotation.get("url_citation"), dict)
    ]


def read_text(content: Any) -> str:
    """Return the text of a content: a string, or a list of parts as Mistral sends it."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")


def read_reasoning_text(message: Mapping[str, Any]) -> str:
    """Return the reasoning in a delta or a message, from the fields that servers use for it."""
    for name in _THOUGHT_FIELDS:
        if isinstance(text := message.get(name), str) and text:
            return text
    content = message.get("content")
    if not isinstance(content, list):
        return reasoning.details_text(message.get("reasoning_details"))
    thoughts = [part.get("thinking") for part in content if isinstance(part, dict) and part.get("type") == "thinking"]
    return "".join(map(read_text, thoughts))
