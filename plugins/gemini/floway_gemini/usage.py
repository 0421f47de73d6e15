"""Token counts: between ``usage`` of the Responses API and ``usageMetadata``.

``output_tokens`` of the Responses API includes the reasoning; ``candidatesTokenCount`` does not.
"""

from collections.abc import Mapping
from typing import Any


def to_metadata(usage: Any) -> dict[str, int]:
    """Convert ``usage`` of a response object.

    :param usage: None or incomplete for counts that are not known; they become 0.
    """
    counts = usage if isinstance(usage, dict) else {}
    received, sent = _count(counts, "input_tokens"), _count(counts, "output_tokens")
    thought = min(sent, _count(counts.get("output_tokens_details"), "reasoning_tokens"))
    cached = _count(counts.get("input_tokens_details"), "cached_tokens")
    return {
        "promptTokenCount": received,
        "candidatesTokenCount": sent - thought,
        "totalTokenCount": received + sent,
        **({"thoughtsTokenCount": thought} if thought else {}),
        **({"cachedContentTokenCount": cached} if cached else {}),
    }


def to_responses(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the last ``usageMetadata`` of an answer."""
    received = _count(metadata, "promptTokenCount") + _count(metadata, "toolUsePromptTokenCount")
    thought = _count(metadata, "thoughtsTokenCount")
    sent = _count(metadata, "candidatesTokenCount") + thought
    return {
        "input_tokens": received,
        "input_tokens_details": {"cached_tokens": _count(metadata, "cachedContentTokenCount")},
        "output_tokens": sent,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": received + sent,
    }


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**53 else 0
