"""What the plugin adds to ``/metrics``: renewals of access tokens, and the accounts' limits."""

import contextlib
import json
from collections.abc import Iterable, Iterator

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


class Renewals:
    """Counts how often the token endpoint was asked for another access token, once somebody wants to know."""

    def __init__(self) -> None:
        self._counter: Counter | None = None

    def count_in(self, registry: CollectorRegistry) -> None:
        """Begin to count."""
        told = "Times that the token endpoint was asked for another access token."
        self._counter = Counter("floway_codex_token_refreshes", told, ("reason", "outcome"), registry=registry)

    @contextlib.contextmanager
    def counted(self, reason: str) -> Iterator[None]:
        """Count what is done in this block: ``renewed``, ``refused`` for good, or ``failed`` for now."""
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


class Quota(Collector):
    """What the database knows of the accounts, whichever process has written it."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        place = ("upstream", "limit", "window")
        used = GaugeMetricFamily("floway_codex_quota_used_percent", "Used up of a limit.", labels=place)
        resets = GaugeMetricFamily("floway_codex_quota_reset_seconds", "Unix time of its reset.", labels=place)
        refused = GaugeMetricFamily(
            "floway_codex_quota_refused_until_seconds", "Unix time until which it is refused.", labels=place[:2]
        )
        usable = GaugeMetricFamily(
            "floway_codex_account_usable", "1, or 0 if an account has to sign in.", labels=("upstream",)
        )
        for upstream, limit, text in select(self._services.database, LIMITS):
            snapshot = json.loads(text)
            for window in quota.WINDOWS:
                known = snapshot.get(window, {})
                if "used_percent" in known:
                    used.add_metric((upstream, limit, window), known["used_percent"])
                if "resets_at" in known:
                    resets.add_metric((upstream, limit, window), known["resets_at"])
            if "refused_until" in snapshot:
                refused.add_metric((upstream, limit), snapshot["refused_until"])
        for upstream, state in select(self._services.database, HEALTH):
            usable.add_metric((upstream,), state == accounts.ACTIVE)
        return used, resets, refused, usable
