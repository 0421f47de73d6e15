"""Decide whether another candidate is tried after a failure, and record the failure."""

import logging
from collections.abc import Sequence

from floway_core.engine.refusals import UNAUTHORIZED, note_account_refusal
from floway_core.engine.routing import Candidate
from floway_core.engine.trace import RequestTrace
from floway_core.errors import (
    GatewayError,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

ACCOUNT_REFUSALS = frozenset({401, 402, 403, 429})
"""Statuses with which an upstream refuses an account. Floway does not circumvent limits: it falls back to another
provider, never to another account of the same provider."""

TRANSIENT_FAILURES = frozenset({408, *range(500, 600)})
"""Statuses of a failing upstream or network. Floway falls back to any other candidate."""


def find_fallbacks(error: GatewayError, failed: Candidate, remaining: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that may be tried after ``error``."""
    if error.status in TRANSIENT_FAILURES:
        return list(remaining)
    if error.status in ACCOUNT_REFUSALS:
        return [candidate for candidate in remaining if candidate.upstream.kind != failed.upstream.kind]
    return []


def record_failure(
    gateway: Gateway, trace: RequestTrace, failed: Candidate, error: GatewayError, fallbacks: Sequence[Candidate]
) -> None:
    """Record a failed attempt for the log, the metrics and ``/readyz``."""
    if isinstance(error, UpstreamFailed):
        trace.failures.append((failed, str(error.status)))  # the upstream chose the code
    elif isinstance(error, UpstreamBroken | UpstreamTimeout | UpstreamUnreachable):
        trace.failures.append((failed, error.code or ""))
    if isinstance(error, UpstreamFailed | UpstreamRefused):
        note_account_refusal(gateway, failed.upstream, error.failure)
    if fallbacks:
        # An upstream's message may quote the request, so it is not logged.
        reason = error.code if isinstance(error, UpstreamFailed) else error.message
        reason = str(error.status) if isinstance(error, UpstreamRefused) else reason
        log.warning("Upstream %s failed (%s); trying %s", failed.upstream.name, reason, fallbacks[0].upstream.name)


def refuses_account(error: GatewayError) -> bool:
    """Return whether an upstream refused the gateway's account, which is not the client's fault."""
    return isinstance(error, UpstreamFailed | UpstreamRefused) and error.status in UNAUTHORIZED
