"""Convert failures of upstreams to errors, and record for the operator that an upstream refused its account."""

import logging

from floway_core.contexts import Upstream
from floway_core.errors import GatewayError, UpstreamBroken, UpstreamFailed
from floway_core.protocol.failures import Failure
from floway_core.runtime.gateway import Gateway

log = logging.getLogger("floway.engine")

UNAUTHORIZED = frozenset({401, 403})
"""Statuses with which an upstream refuses the gateway's account, as opposed to limiting it."""


def failure_error(failure: Failure | None) -> GatewayError:
    """Return the error for a failure of an upstream; None for a failure without a reason."""
    return UpstreamFailed(failure) if failure else UpstreamBroken("The upstream failed without a reason.")


def note_account_refusal(gateway: Gateway, upstream: Upstream, failure: Failure) -> None:
    """Record for the operator, in the log and for ``/readyz``, that ``upstream`` refused its account."""
    if failure.status not in UNAUTHORIZED:
        return
    problem = f"The upstream {upstream.name!r} refused its account with {failure.status}: sign in again."
    gateway.account_refusals[upstream.id] = problem
    log.warning("Upstream %s refused its account: %d %s", upstream.name, failure.status, failure.code)
