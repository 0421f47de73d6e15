"""Convert token counts between ``usage`` of the Responses API and ``usageMetadata``.

``output_tokens`` of the Responses API includes the reasoning; ``candidatesTokenCount`` does not.
"""

from collections.abc import Mapping
from typing import Any


def to_metadata(usage: Any) -> dict[str, int]:
    """Convert ``usage`` of a response object.

    :param usage: None or incomplete for counts that are not known; they become 0.
    """
    counts = usage if isinstance(usage, dict) else {}
    input_tokens, output_tokens = _count(counts, "input_tokens"), _count(counts, "output_tokens")
    reasoning_tokens = min(output_tokens, _count(counts.get("output_tokens_details"), "reasoning_tokens"))
    cached_tokens = _count(counts.get("input_tokens_details"), "cached_tokens")
    return {
        "promptTokenCount": input_tokens,
        "candidatesTokenCount": output_tokens - reasoning_tokens,
        "totalTokenCount": input_tokens + output_tokens,
        **({"thoughtsTokenCount": reasoning_tokens} if reasoning_tokens else {}),
        **({"cachedContentTokenCount": cached_tokens} if cached_tokens else {}),
    }


def to_responses(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the last ``usageMetadata`` of an answer."""
    input_tokens = _count(metadata, "promptTokenCount") + _count(metadata, "toolUsePromptTokenCount")
    reasoning_tokens = _count(metadata, "thoughtsTokenCount")
    output_tokens = _count(metadata, "candidatesTokenCount") + reasoning_tokens
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": _count(metadata, "cachedContentTokenCount")},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**53 else 0
