"""What a request costs: by the usage that the upstream reports, or by an estimate if it reports none."""

from collections.abc import Mapping

from floway_core.engine.trace import RequestTrace
from floway_core.prices import Price
from floway_core.protocol.responses import FAILED
from floway_core.protocol.token_estimate import BYTES_PER_TOKEN, estimate_tokens
from floway_core.protocol.usage import NO_TOKENS, Tokens, complete_usage, usage_of
from floway_core.storage.budgets import FREE, Charge


def cost_of(prices: Mapping[str, Price], trace: RequestTrace, tokens: Tokens, tier: str) -> float | None:
    """Return the cost of the tokens that the upstream of the last attempt has reported, in USD.

    :param prices: the operator's price table.
    :returns: None if the price is unknown.
    """
    price = trace.candidate.price(prices) if trace.candidate else None
    return price.cost(tokens, tier) if price else None


def charge_of(prices: Mapping[str, Price], trace: RequestTrace) -> Charge:
    """Return what a request costs its key's budgets.

    A response that breaks off before its usage is reported has used tokens nevertheless. They are estimated, so that a
    client cannot save money by hanging up.
    """
    events = trace.events
    if events is None:
        return FREE
    response = events.response
    tokens = usage_of(response) if complete_usage(response.get("usage")) else _estimate(trace)
    if not any(tokens):
        return FREE
    tier = response.get("service_tier")
    usd = cost_of(prices, trace, tokens, tier if isinstance(tier, str) else "")
    return Charge(is_unpriced=True) if usd is None else Charge(usd)


def _estimate(trace: RequestTrace) -> Tokens:
    """Estimate the tokens of the last attempt by what was sent and what has arrived. A failure without any content is
    taken for a refusal, which costs nothing."""
    events, context = trace.events, trace.attempts[-1].context
    if events is None or context is None or (events.terminal == FAILED and not events.has_content):
        return NO_TOKENS
    request = context.request
    if not request.body and request.original:  # a forwarded one
        return Tokens(-(-len(request.original.raw) // BYTES_PER_TOKEN), 0, 0, 0)
    output = events.partial_output()
    return Tokens(estimate_tokens(request.body), 0, estimate_tokens({"input": output}) if output else 0, 0)
