"""Order candidates by the upstreams that issued the items of a conversation.

Reasoning and compaction items are encrypted for the account that issued them. A compaction replaces everything before
it, so only its issuer can continue the conversation. Reasoning is removed for other upstreams: the model loses its
earlier thoughts, but the conversation continues.
"""

from collections.abc import Sequence

from floway_core.conversation.records import History
from floway_core.engine.routing import Candidate
from floway_core.errors import GatewayError
from floway_core.protocol.items import COMPACTIONS


def order_candidates(candidates: Sequence[Candidate], history: History) -> list[Candidate]:
    """Return the candidates that can read ``history``: those that issued items of it first, the latest issuer foremost.

    :raises GatewayError: 400 ``responses_item_routing_unavailable``: no candidate can read its compaction.
    """
    issuers = set() if history.kinds.isdisjoint(COMPACTIONS) else _compaction_issuers(history)
    if len(issuers) > 1:
        raise _routing_unavailable("The input holds compaction items of several upstreams.")
    if issuers:
        readers = [candidate for candidate in candidates if candidate.upstream.id in issuers]
        if not readers:
            raise _routing_unavailable("The upstream that compacted this conversation does not serve this model now.")
        return readers
    if len(candidates) == 1:
        return list(candidates)
    last_positions = {issuer: position for position, issuer in enumerate(history.issuers) if issuer}
    return sorted(candidates, key=lambda candidate: -last_positions.get(candidate.upstream.id, -1))


def _compaction_issuers(history: History) -> set[str]:
    pairs = zip(history.types, history.issuers, strict=True)
    return {issuer for kind, issuer in pairs if issuer and kind in COMPACTIONS}


def without_foreign_reasoning(history: History, upstream_id: str) -> History:
    """Return the history for one upstream: without the reasoning that only another upstream can read."""
    if "reasoning" not in history.kinds or {None, upstream_id}.issuperset(history.issuers):
        return history
    pairs = zip(history.items, history.issuers, strict=True)
    readable = [pair for pair in pairs if pair[0].get("type") != "reasoning" or pair[1] in (None, upstream_id)]
    return History([item for item, _ in readable], [issuer for _, issuer in readable])


def without_reasoning(history: History) -> History:
    """Return the history without any reasoning."""
    pairs = zip(history.items, history.issuers, strict=True)
    remaining = [pair for pair in pairs if pair[0].get("type") != "reasoning"]
    return History([item for item, _ in remaining], [issuer for _, issuer in remaining])


def _routing_unavailable(message: str) -> GatewayError:
    return GatewayError(400, message, param="input", code="responses_item_routing_unavailable")
