"""The metrics of the plugin: renewals of access tokens, and the state and limits of accounts."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from floway_codex.account import accounts, oauth, quota
from floway_core.contexts import Services
from floway_core.storage.db import select

LIMITS = """
    SELECT u.name, q.limit_name, q.snapshot_json FROM codex_quota q JOIN upstreams u ON u.id = q.upstream_id
    ORDER BY u.name, q.limit_name
"""
HEALTH = "SELECT u.name, h.state FROM codex_health h JOIN upstreams u ON u.id = h.upstream_id ORDER BY u.name"


class RenewalCounter:
    """Counts renewals of access tokens, once it is registered."""

    def __init__(self) -> None:
        self._counter: Counter | None = None

    def register(self, registry: CollectorRegistry) -> None:
        """Register the counter, and begin to count."""
        documentation = "Renewals of access tokens at the token endpoint."
        self._counter = Counter("floway_codex_token_refreshes", documentation, ("reason", "outcome"), registry=registry)

    @contextlib.contextmanager
    def count(self, reason: str) -> Iterator[None]:
        """Count the renewal in this block as ``renewed``, ``refused`` (permanently) or ``failed`` (for now)."""
        outcome = "failed"
        try:
            yield
            outcome = "renewed"
        except oauth.GrantRefused:
            outcome = "refused"
            raise
        finally:
            if self._counter:
                self._counter.labels(reason, outcome).inc()


class QuotaCollector(Collector):
    """Reads states and limits from the database, so that every process reports those of all."""

    def __init__(self, services: Services, refresh: Callable[[], None]) -> None:
        """:param refresh: starts to renew reports that are old, without waiting."""
        self._services = services
        self._refresh = refresh

    def collect(self) -> Iterable[Metric]:
        """Read the limits of all accounts from the database."""
        labels = ("upstream", "limit", "window")
        used = GaugeMetricFamily("floway_codex_quota_used_percent", "Used up of a limit.", labels=labels)
        resets = GaugeMetricFamily("floway_codex_quota_reset_seconds", "Unix time of its reset.", labels=labels)
        refused = GaugeMetricFamily(
            "floway_codex_quota_refused_until_seconds", "Unix time until which it is refused.", labels=labels[:2]
        )
        usable = GaugeMetricFamily(
            "floway_codex_account_usable", "1, or 0 if an account has to sign in.", labels=("upstream",)
        )
        for upstream, limit, text in select(self._services.database, LIMITS):
            snapshot = json.loads(text)
            for window in quota.WINDOWS:
                values = snapshot.get(window, {})
                if "used_percent" in values:
                    used.add_metric((upstream, limit, window), values["used_percent"])
                if "resets_at" in values:
                    resets.add_metric((upstream, limit, window), values["resets_at"])
            if "refused_until" in snapshot:
                refused.add_metric((upstream, limit), snapshot["refused_until"])
        for upstream, state in select(self._services.database, HEALTH):
            usable.add_metric((upstream,), state == accounts.ACTIVE)
        self._refresh()  # behind the reading: the next scrape has what it brings
        return used, resets, refused, usable
