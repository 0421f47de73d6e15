"""Adding a request that has ended to the usage of its API key."""

from collections.abc import Callable

from floway_core.engine.resolve import Candidate
from floway_core.gateway import Gateway
from floway_core.prices import Price, read_prices
from floway_core.routes.log import RequestLog
from floway_core.store.usage import NOBODY


def counting(gateway: Gateway) -> Callable[[RequestLog], None]:
    """What counts requests.

    :raises StartupError: the operator's price table cannot be used.
    """
    prices = read_prices(gateway.settings.prices)

    def price_of(candidate: Candidate) -> Price | None:
        return prices.get(candidate.model.id) or prices.get(candidate.upstream_name) or candidate.model.price

    def count(entry: RequestLog) -> None:
        if not entry.metered or entry.key is None:
            return
        candidate = entry.course.tried[-1] if entry.course.tried else None
        price = price_of(candidate) if candidate else None
        gateway.usage.add(
            entry.key,
            candidate.model.id if candidate else NOBODY,
            candidate.upstream.name if candidate else NOBODY,
            entry.tokens,
            price.cost(entry.tokens, entry.tier) if price else None,
            entry.failed,
        )

    return count
