"""Convert token counts between ``usage`` of the Responses API and of the Messages API.

``input_tokens`` of the Responses API includes tokens that were read from the cache or written to it; that of the
Messages API does not.
"""

from collections.abc import Mapping
from typing import Any

SERVICE_TIERS = {"priority": "priority", "batch": "batch"}
"""Service tiers of a response by their name in the Messages API; all others are ``standard``."""


def to_messages(usage: Any, *, searches: int = 0) -> dict[str, Any]:
    """Convert ``usage`` of a response object.

    :param usage: None or incomplete for counts that are not known; they become 0.
    :param searches: number of web searches in the response.
    """
    counts = usage if isinstance(usage, dict) else {}
    cache_reads = _count(counts.get("input_tokens_details"), "cached_tokens")
    cache_writes = _count(counts.get("input_tokens_details"), "cache_write_tokens")
    converted: dict[str, Any] = {
        "input_tokens": max(0, _count(counts, "input_tokens") - cache_reads - cache_writes),
        "cache_creation_input_tokens": cache_writes,
        "cache_read_input_tokens": cache_reads,
        "output_tokens": _count(counts, "output_tokens"),
    }
    reasoning = _count(counts.get("output_tokens_details"), "reasoning_tokens")
    if reasoning:
        converted["output_tokens_details"] = {"thinking_tokens": reasoning}
    if searches:
        converted["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return converted


def to_responses(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Convert ``usage`` of a message; of a stream, the merged ``usage`` of its events."""
    cache_reads, cache_writes = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    input_tokens = _count(usage, "input_tokens") + cache_reads + cache_writes
    output_tokens = _count(usage, "output_tokens")
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cache_reads, "cache_write_tokens": cache_writes},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": _count(usage.get("output_tokens_details"), "thinking_tokens")},
        "total_tokens": input_tokens + output_tokens,
    }


def merge(start: Mapping[str, Any], delta: Any) -> dict[str, Any]:
    """Merge the usage of ``message_start`` with that of ``message_delta``, whose counts are totals.

    Some servers send zeros in ``message_delta`` for counts that only ``message_start`` has.
    """
    update = {name: value for name, value in delta.items() if value} if isinstance(delta, dict) else {}
    return {**start, **update}


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
