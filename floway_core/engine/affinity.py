"""Which candidates can read what a conversation holds, and which of them should.

Reasoning and compaction items are encrypted for the account they were made with. A compaction stands for everything
before it, so only its issuer can go on; reasoning is left out for others, which costs quality but works.
"""

from collections.abc import Sequence

from floway_core.conversation.rows import StoredItem
from floway_core.engine.resolve import Candidate
from floway_core.errors import GatewayError
from floway_core.protocol.items import COMPACTIONS


def ordered(candidates: Sequence[Candidate], given: Sequence[StoredItem]) -> list[Candidate]:
    """The candidates that can serve a conversation, those who issued its items first, the latest issuer before all.

    :raises GatewayError: 400 ``responses_item_routing_unavailable``: its compaction can be read by none of them.
    """
    needed = dict.fromkeys(item.upstream_id for item in given if item.upstream_id and _is_compaction(item))
    if len(needed) > 1:
        raise _unavailable("The input holds compaction items of several upstreams.")
    if needed:
        able = [candidate for candidate in candidates if candidate.upstream.id in needed]
        if not able:
            raise _unavailable("The upstream that compacted this conversation does not serve this model now.")
        return able
    latest = {item.upstream_id: place for place, item in enumerate(given) if item.upstream_id}
    return sorted(candidates, key=lambda candidate: -latest.get(candidate.upstream.id, -1))


def readable(given: Sequence[StoredItem], upstream_id: str) -> list[StoredItem]:
    """The items for one upstream: without the reasoning that only another can read."""
    return [item for item in given if item.body.get("type") != "reasoning" or item.upstream_id in (None, upstream_id)]


def _is_compaction(item: StoredItem) -> bool:
    return item.body.get("type") in COMPACTIONS


def _unavailable(message: str) -> GatewayError:
    return GatewayError(400, message, param="input", code="responses_item_routing_unavailable")
