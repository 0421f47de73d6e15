"""Adding a request that has ended to the usage of its API key."""

from collections.abc import Callable

from floway_core.engine.routing import Candidate
from floway_core.engine.trace import Course
from floway_core.prices import Price, read_prices
from floway_core.runtime.gateway import Gateway
from floway_core.storage.last_use import Lately
from floway_core.storage.usage import NOBODY
from floway_core.web.request_log import RequestLog

FAILURES = {
    "upstream_unreachable": "It cannot be reached.",
    "upstream_timeout": "It did not answer in time.",
    "upstream_disconnected": "It broke off its answer.",
}
"""What an upstream did instead of answering, by the code of the error."""

TELLING = {401, 402, 403, 404, 408, 429, *range(500, 600)}
"""Statuses that say something of the upstream or its account."""


def counting(gateway: Gateway) -> Callable[[RequestLog], None]:
    """What counts requests.

    :raises StartupError: the operator's price table cannot be used.
    """
    prices = read_prices(gateway.settings.prices)

    def price_of(candidate: Candidate) -> Price | None:
        return prices.get(candidate.model.id) or prices.get(candidate.upstream_name) or candidate.model.price

    def count(entry: RequestLog) -> None:
        if entry.key is None:
            return
        gateway.usage.lately.used(entry.key)
        _note_tries(gateway.usage.lately, entry.course)
        if not entry.metered:
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


def _note_tries(lately: Lately, course: Course) -> None:
    """Note how the upstreams did that were tried; what is the client's own fault says nothing of them."""
    for candidate, why in course.failures:
        if told := FAILURES.get(why) or (why.isdigit() and int(why) in TELLING and f"It answered {why}."):
            lately.tried(candidate.upstream.id, told)
    failed = [candidate for candidate, _ in course.failures]
    if course.events is not None and course.tried[-1] not in failed:
        lately.tried(course.tried[-1].upstream.id)
