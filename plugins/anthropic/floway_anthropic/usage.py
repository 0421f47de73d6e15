"""Token counts: between ``usage`` of the Responses API and of the Messages API.

``input_tokens`` of the Responses API includes what came from the cache and what was written to it; that of the Messages
API does not.
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
    cached = _count(counts.get("input_tokens_details"), "cached_tokens")
    written = _count(counts.get("input_tokens_details"), "cache_write_tokens")
    converted: dict[str, Any] = {
        "input_tokens": max(0, _count(counts, "input_tokens") - cached - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": _count(counts, "output_tokens"),
    }
    thought = _count(counts.get("output_tokens_details"), "reasoning_tokens")
    if thought:
        converted["output_tokens_details"] = {"thinking_tokens": thought}
    if searches:
        converted["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return converted


def to_responses(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Convert ``usage`` of a message, which may be of several events, merged."""
    cached, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    received, sent = _count(usage, "input_tokens") + cached + written, _count(usage, "output_tokens")
    return {
        "input_tokens": received,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": sent,
        "output_tokens_details": {"reasoning_tokens": _count(usage.get("output_tokens_details"), "thinking_tokens")},
        "total_tokens": received + sent,
    }


def merge(first: Mapping[str, Any], second: Any) -> dict[str, Any]:
    """Merge the usage of ``message_start`` with that of ``message_delta``, whose counts are totals.

    Some servers send zeros in the second for what only the first tells.
    """
    later = {name: value for name, value in second.items() if value} if isinstance(second, dict) else {}
    return {**first, **later}


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0
