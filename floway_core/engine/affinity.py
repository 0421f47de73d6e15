"""Which candidates can read what a conversation holds, and which of them should.

Reasoning and compaction items are encrypted for the account they were made with. A compaction stands for everything
before it, so only its issuer can go on; reasoning is left out for others, which costs quality but works.
"""

from collections.abc import Sequence

from floway_core.conversation.records import History
from floway_core.engine.routing import Candidate
from floway_core.errors import GatewayError
from floway_core.protocol.items import COMPACTIONS


def order_candidates(candidates: Sequence[Candidate], given: History) -> list[Candidate]:
    """The candidates that can serve a conversation, those who issued its items first, the latest issuer before all.

    :raises GatewayError: 400 ``responses_item_routing_unavailable``: its compaction can be read by none of them.
    """
    needed = set() if given.kinds.isdisjoint(COMPACTIONS) else _who_compacted(given)
    if len(needed) > 1:
        raise _unavailable("The input holds compaction items of several upstreams.")
    if needed:
        able = [candidate for candidate in candidates if candidate.upstream.id in needed]
        if not able:
            raise _unavailable("The upstream that compacted this conversation does not serve this model now.")
        return able
    latest = {issuer: place for place, issuer in enumerate(given.issuers) if issuer}
    return sorted(candidates, key=lambda candidate: -latest.get(candidate.upstream.id, -1))


def _who_compacted(given: History) -> set[str]:
    pairs = zip(given.items, given.issuers, strict=True)
    return {issuer for item, issuer in pairs if issuer and item.get("type") in COMPACTIONS}


def without_foreign_reasoning(given: History, upstream_id: str) -> History:
    """The history for one upstream: without the reasoning that only another can read."""
    if "reasoning" not in given.kinds:
        return given
    pairs = zip(given.items, given.issuers, strict=True)
    readable = [pair for pair in pairs if pair[0].get("type") != "reasoning" or pair[1] in (None, upstream_id)]
    return History([item for item, _ in readable], [issuer for _, issuer in readable])


def _unavailable(message: str) -> GatewayError:
    return GatewayError(400, message, param="input", code="responses_item_routing_unavailable")
