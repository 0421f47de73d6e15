"""Checks of ``floway doctor``: each upstream and its connection, the clock, and the aliases."""

import email.utils
import time
from collections.abc import Iterator

from floway_core.administration.check_result import FAIL, OK, WARN, CheckResult
from floway_core.administration.upstreams import explain
from floway_core.contexts import Upstream
from floway_core.engine import routing
from floway_core.engine.model_lists import fetch_list
from floway_core.errors import GatewayError
from floway_core.provider import Provider
from floway_core.runtime.gateway import Gateway
from floway_core.runtime.plugin_calls import log_failures
from floway_core.storage import aliases, upstreams
from floway_core.upstream import HttpClient

TIMEOUT_SECONDS = 10.0
"""Time for a response to the request that compares the clocks."""

SKEW_WARNING_SECONDS, SKEW_FAILURE_SECONDS = 30, 300
"""Clock differences from which ``doctor`` warns, or fails: tokens would be renewed too late or too often."""


def check(gateway: Gateway) -> Iterator[CheckResult]:
    """Check every enabled upstream, the clock against theirs, and that they serve all aliases."""
    rows = [row for row in upstreams.all_rows(gateway.services.database) if row.enabled]
    if not rows:
        remedy = "See `floway upstreams add --help`, and `floway PROVIDER --help` of the providers that have commands."
        yield CheckResult("upstreams", FAIL, "No upstream is enabled, so no request can be served.", remedy)
    http, skews = HttpClient(gateway.settings), []
    for row in rows:
        provider = gateway.providers.by_kind.get(row.kind)
        if provider is None:
            remedy = f"pip install it, or: floway upstreams disable {row.name}"
            yield CheckResult("upstreams", FAIL, f"{row.name}: {gateway.find_problem(row)}", remedy)
            continue
        if problem := gateway.find_problem(row):
            yield CheckResult(
                "upstreams", FAIL, f"{row.name}: {problem}", f"Until then: floway upstreams disable {row.name}"
            )
            continue
        result, skew = _check_upstream(gateway, http, provider, row)
        skews += [skew] if skew is not None else []
        yield result
    if skews:
        yield _check_clock(min(skews, key=abs))
    yield from _check_aliases(gateway)


def _check_aliases(gateway: Gateway) -> Iterator[CheckResult]:
    rows = aliases.all_rows(gateway.services.database)
    served = (
        {candidate.model.id for candidate in routing.list_offered(gateway, wait_for_all=True).candidates}
        if rows
        else ()
    )
    for row in rows:
        if row.name not in served:
            remedy = "Compare `floway aliases list` with `floway models`: the prefix of a model may have changed."
            yield CheckResult("aliases", WARN, f"{row.name} has no target that an upstream serves.", remedy)


def _check_upstream(
    gateway: Gateway, http: HttpClient, provider: Provider, upstream: Upstream
) -> tuple[CheckResult, float | None]:
    """Check an upstream with requests to it; return the result, and the difference of the clocks if it is known."""
    try:
        with log_failures(upstream, "base_url"):
            skew = _measure_skew(http, provider, upstream)
            return _check_models(gateway, provider, upstream), skew
    except GatewayError as error:
        return _report_failure(gateway, upstream, error), None
    message = f"{upstream.name}: The plugin of provider {upstream.kind!r} has failed: see the log."
    return CheckResult("upstreams", FAIL, message, f"Until then: floway upstreams disable {upstream.name}"), None


def _check_models(gateway: Gateway, provider: Provider, upstream: Upstream) -> CheckResult:
    try:
        models = fetch_list(provider, upstream)
    except GatewayError as error:
        return _report_failure(gateway, upstream, error)
    return CheckResult("upstreams", OK, f"{upstream.name} serves {len(models)} models")


def _report_failure(gateway: Gateway, upstream: Upstream, error: GatewayError) -> CheckResult:
    """Report why an upstream does not work, with the remedy for this error."""
    problem = explain(gateway, upstream, error)
    return CheckResult("upstreams", FAIL, f"{upstream.name}: {problem.reason}", problem.remedy)


def _measure_skew(http: HttpClient, provider: Provider, upstream: Upstream) -> float | None:
    """Return how many seconds this clock is ahead of the upstream's; None if the upstream does not state its time.

    :raises GatewayError: the upstream cannot be reached.
    """
    address = provider.base_url(upstream)
    if address is None:
        return None
    sent_at = time.time()
    response = http.fetch("HEAD", address, {}, timeout=TIMEOUT_SECONDS)
    try:
        upstream_time = email.utils.parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    return (sent_at + time.time()) / 2 - upstream_time - 0.5  # the header has whole seconds


def _check_clock(skew: float) -> CheckResult:
    message = f"it is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the upstream's"
    if abs(skew) < SKEW_WARNING_SECONDS:
        return CheckResult("clock", OK, message)
    remedy = "Let the system set it: timedatectl set-ntp true, or chrony."
    return CheckResult(
        "clock",
        WARN if abs(skew) < SKEW_FAILURE_SECONDS else FAIL,
        f"{message}: tokens may be renewed too late.",
        remedy,
    )
