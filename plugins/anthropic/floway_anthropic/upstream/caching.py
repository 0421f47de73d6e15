"""Mark the parts of a request that the upstream shall cache (``cache_control``).

The upstream caches the text before each mark. It looks for text that earlier requests have cached at each mark and at
up to 20 blocks before it. A conversation grows at its end, so the marks are:

1. the end of ``system``, or of ``tools`` without it: the same for all conversations of a client;
2. the end of the previous request: the last user message before the last assistant message. So it is found even if more
   than 20 blocks have been added since;
3. the end of the request, for the next one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

CACHE_CONTROL = {"type": "ephemeral"}
_UNMARKABLE = ("thinking", "redacted_thinking")


def add_marks(body: dict[str, Any]) -> None:
    """Add the marks to a request for the upstream, in place."""
    _mark(body.get("system") or body.get("tools") or [])
    messages = body["messages"]
    last_answer = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    ends = {last_answer - 1, len(messages) - 1}
    for position in sorted(ends):
        if position >= 0:
            _mark(messages[position]["content"])


def _mark(blocks: Sequence[dict[str, Any]]) -> None:
    """Mark the last block that can have a mark."""
    for block in reversed(blocks):
        if _can_be_marked(block):
            block["cache_control"] = dict(CACHE_CONTROL)
            return


def _can_be_marked(block: Mapping[str, Any]) -> bool:
    return block.get("type") not in _UNMARKABLE and block.get("text") != ""
