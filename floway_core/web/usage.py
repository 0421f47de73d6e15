"""Count requests that have ended, as usage of their API key and their upstreams."""

from collections.abc import Callable

from floway_core.engine.trace import RequestTrace
from floway_core.runtime.gateway import Gateway
from floway_core.storage.last_use import LastUseBuffer
from floway_core.storage.usage import NOBODY
from floway_core.web.request_log import RequestLogEntry

FAILURES = {
    "upstream_unreachable": "It cannot be reached.",
    "upstream_timeout": "It did not answer in time.",
    "upstream_disconnected": "It broke off its answer.",
}
"""The failure of an upstream for the operator, by error code."""

UPSTREAM_FAULTS = {401, 402, 403, 404, 408, 429, *range(500, 600)}
"""Statuses that mean a fault of the upstream or its account, not of the client."""


def usage_counter(gateway: Gateway) -> Callable[[RequestLogEntry], None]:
    """Return the callback that counts a request."""

    def count(entry: RequestLogEntry) -> None:
        if entry.key is None:
            return
        gateway.usage.last_use.note_key_use(entry.key)
        _record_attempts(gateway.usage.last_use, entry.trace)
        if not entry.metered:
            return
        candidate = entry.trace.candidate
        gateway.usage.add(
            entry.key,
            candidate.model.id if candidate else NOBODY,
            candidate.upstream.name if candidate else NOBODY,
            entry.tokens,
            entry.cost_usd,
            entry.failed,
        )

    return count


def _record_attempts(last_use: LastUseBuffer, trace: RequestTrace) -> None:
    """Record whether each upstream succeeded or failed. A fault of the client counts as neither."""
    for candidate, reason in trace.failures:
        failure = FAILURES.get(reason)
        if reason.isdigit() and int(reason) in UPSTREAM_FAULTS:
            failure = f"It answered {reason}."
        if failure:
            last_use.note_try(candidate.upstream.id, failure)
    last = trace.candidate
    if trace.events is not None and last and last not in [refused for refused, _ in trace.failures]:
        last_use.note_try(last.upstream.id)
