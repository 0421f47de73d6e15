"""Checks of ``floway doctor``: each upstream, the way to it, the clock, and the aliases."""

import email.utils
import time
from collections.abc import Iterator

import peewee
import pluggy

from floway_core.cli.check_result import FAIL, OK, WARN, CheckResult
from floway_core.contexts import Services, Upstream
from floway_core.engine import routing
from floway_core.errors import GatewayError, NoModelList, StartupError
from floway_core.provider import Provider
from floway_core.runtime.gateway import Gateway, make_gateway
from floway_core.secrets import SecretBox
from floway_core.settings import Settings
from floway_core.storage import aliases, upstreams
from floway_core.upstream import HttpClient

PATIENCE = 10.0
"""Seconds for an answer."""

SKEWED, WRONG = 30, 300
"""Seconds by which the clock may differ; beyond the second one, tokens are renewed too late or all the time."""

UNANSWERED = "Is {address} right? Then look at the network and at proxies; after that: floway upstreams test {name}"
ANYTHING_ELSE = "If it does not pass by itself, see: floway {kind} --help; then: floway upstreams test {name}"
MENDS = {
    "upstream_unreachable": UNANSWERED,
    "upstream_timeout": UNANSWERED,
    NoModelList.WRONG_ADDRESS: (
        "The address is probably wrong: what answers at {address} is no API of this kind. "
        "See `floway config` and `floway {kind} --help`."
    ),
    NoModelList.CREDENTIALS_REFUSED: (
        "Its credentials are wrong, or belong elsewhere than to {address}. See: floway {kind} --help"
    ),
}
"""What to do about a failure, by the code of the error."""


def check(
    settings: Settings, manager: pluggy.PluginManager, database: peewee.Database, box: SecretBox
) -> Iterator[CheckResult]:
    """Every upstream that is enabled, the clock by what they answer, and whether they serve what aliases stand for."""
    try:
        gateway = make_gateway(Services(settings, database, box), manager)
    except StartupError as error:
        yield CheckResult("upstreams", FAIL, str(error), "Uninstall one of them; Floway does not start.")
        return
    rows = [row for row in upstreams.all_rows(database) if row.enabled]
    if not rows:
        mend = "See `floway upstreams add --help`, and `floway PROVIDER --help` of the providers that have commands."
        yield CheckResult("upstreams", FAIL, "There is none that is enabled, so nothing can be served.", mend)
    http, skews = HttpClient(settings), []
    for row in rows:
        provider = gateway.providers.by_kind.get(row.kind)
        if provider is None:
            mend = f"pip install it, or: floway upstreams disable {row.name}"
            yield CheckResult("upstreams", FAIL, f"{row.name}: {gateway.unavailable_reason(row)}", mend)
            continue
        if problem := gateway.unavailable_reason(row):
            yield CheckResult(
                "upstreams", FAIL, f"{row.name}: {problem}", f"Until then: floway upstreams disable {row.name}"
            )
            continue
        try:
            skew = _skew(http, provider, row)
        except GatewayError as error:
            yield _failed(provider, row, error)
            continue
        skews += [skew] if skew is not None else []
        yield _models(provider, row)
    if skews:
        yield _clock(min(skews, key=abs))
    yield from _aliases(gateway)


def _aliases(gateway: Gateway) -> Iterator[CheckResult]:
    rows = aliases.all_rows(gateway.services.database)
    served = (
        {candidate.model.id for candidate in routing.list_offered(gateway, wait_for_all=True).candidates}
        if rows
        else ()
    )
    for row in rows:
        if row.name not in served:
            mend = "Compare `floway aliases list` with `floway models`: has a model another prefix now?"
            yield CheckResult("aliases", WARN, f"{row.name} stands for nothing that an upstream serves.", mend)


def _models(provider: Provider, upstream: Upstream) -> CheckResult:
    try:
        found = provider.fetch_models(upstream)
    except GatewayError as error:
        return _failed(provider, upstream, error)
    return CheckResult("upstreams", OK, f"{upstream.name} serves {len(found)} models")


def _failed(provider: Provider, upstream: Upstream, error: GatewayError) -> CheckResult:
    """Why an upstream does not answer as it should, and what mends it."""
    address = provider.base_url(upstream) or "its address"
    mend = MENDS.get(error.code or "", ANYTHING_ELSE).format(address=address, kind=upstream.kind, name=upstream.name)
    return CheckResult("upstreams", FAIL, f"{upstream.name}: {error.message}", mend)


def _skew(http: HttpClient, provider: Provider, upstream: Upstream) -> float | None:
    """Seconds by which this clock is ahead of the upstream's; None when it does not tell.

    :raises GatewayError: there is no way to it.
    """
    address = provider.base_url(upstream)
    if address is None:
        return None
    asked = time.time()
    answer = http.fetch("HEAD", address, {}, timeout=PATIENCE)
    try:
        told = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    return (asked + time.time()) / 2 - told - 0.5  # it tells whole seconds


def _clock(skew: float) -> CheckResult:
    told = f"it is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the upstream's"
    if abs(skew) < SKEWED:
        return CheckResult("clock", OK, told)
    mend = "Let the system set it: timedatectl set-ntp true, or chrony."
    return CheckResult("clock", WARN if abs(skew) < WRONG else FAIL, f"{told}: expiry of tokens is misjudged.", mend)
