"""The output of ``floway codex status``: accounts, token expiry and limits, without secrets."""

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from floway_codex.account import accounts, credentials, quota
from floway_codex.account.accounts import Account
from floway_codex.account.auth_file import KIND
from floway_codex.account.clients import CURRENT_SECONDS, SeenClient, lacks_profile, read_clients
from floway_core.contexts import Services
from floway_core.errors import GatewayError
from floway_core.storage import upstreams
from floway_core.storage.db import select

MISSING_PROFILE = (
    "{} is newer than any profile, so it is served as the newest one; `floway codex profile make` makes its own."
)
TRANSPORTS = {
    "auto": "WebSocket, else POST, as the CLI",
    "websocket": "WebSocket only",
    "http": "POST only",
}
RENEWAL_INTERRUPTED = (
    "A process was killed while it renewed the token. The next request renews it; if the new token was lost, sign in "
    "again."
)


@dataclass(frozen=True)
class Status:
    """The status of one upstream."""

    upstream: str
    enabled: bool
    account: Account
    token_expires_at: int | None
    """Unix seconds; 0 if unknown, None if there is no token."""
    is_renewal_interrupted: bool
    """Whether a process has ended in the middle of a renewal, and nobody has tried again yet."""
    models_fetched_at: int | None
    """Unix seconds; None if no model list is stored."""
    clients: Sequence[SeenClient]
    """Those of the last week, the newest version first."""
    lacks_profile: Sequence[str]
    """The versions among them that are newer than any profile."""
    limits: Sequence[dict[str, Any]]
    """As ``quota.read_limits`` returns them."""
    transport: str
    """The setting ``codex_transport``."""


def read_statuses(services: Services) -> list[Status]:
    """The status of all Codex upstreams, in the order in which routing tries them."""
    expiries: dict[str, int | None] = dict(
        select(services.database, "SELECT upstream_id, expires_at FROM codex_tokens")
    )
    fetched: dict[str, int] = dict(select(services.database, "SELECT upstream_id, fetched_at FROM codex_catalogue"))
    settings, now, statuses = services.settings.plugin, int(time.time()), []
    for row in upstreams.all_rows(services.database):
        if row.kind != KIND:
            continue
        try:
            account = accounts.find_account(services, row.id)
        except GatewayError:  # the upstream has just been removed
            continue
        clients = read_clients(services, row.id, now - CURRENT_SECONDS)
        versions = [client.version for client in clients if client.is_cli]
        statuses.append(
            Status(
                upstream=row.name,
                enabled=row.enabled,
                account=account,
                token_expires_at=expiries.get(row.id),
                is_renewal_interrupted=credentials.is_lease_abandoned(services, row.id, now),
                models_fetched_at=fetched.get(row.id),
                clients=clients,
                lacks_profile=[version for version in versions if lacks_profile(version, settings["codex_profiles"])],
                limits=quota.read_limits(services, row.id),
                transport=settings["codex_transport"],
            )
        )
    return statuses


def to_json(status: Status) -> dict[str, Any]:
    """The status for programs; times are Unix seconds."""
    account = status.account
    return {
        "upstream": status.upstream,
        "enabled": status.enabled,
        "account_id": account.account_id,
        "user_id": account.user_id,
        "installation_id": account.installation_id,
        "email": account.email,
        "plan": account.plan,
        "token_expires_at": status.token_expires_at,
        "renewal_interrupted": status.is_renewal_interrupted,
        "state": account.state,
        "state_message": account.message,
        "state_since": account.since,
        "models_fetched_at": status.models_fetched_at,
        "clients": [vars(client) for client in status.clients],
        "versions_without_profile": list(status.lacks_profile),
        "limits": list(status.limits),
        "transport": status.transport,
    }


def to_text(status: Status, now: float) -> str:
    """The status for people."""
    account = status.account
    lines = [
        ("account", account.account_id),
        ("email", account.email),
        ("plan", account.plan),
        ("token", _format_expiry(status.token_expires_at, now)),
        ("state", f"{account.state}{f' ({account.message})' if account.message else ''}"),
        ("install.", account.installation_id),
        (
            "models",
            "none yet" if status.models_fetched_at is None else f"of {format_time(status.models_fetched_at, now)}",
        ),
        ("transport", TRANSPORTS[status.transport]),
        *(("client", _format_client(client, now)) for client in status.clients),
        *(("", MISSING_PROFILE.format(version)) for version in status.lacks_profile),
        *(("quota", line) for limit in status.limits for line in _format_limit(limit, now)),
    ]
    if status.is_renewal_interrupted and account.state == accounts.ACTIVE:
        lines.append(("renewal", RENEWAL_INTERRUPTED))
    if account.state != accounts.ACTIVE:
        lines.append(("", accounts.SIGN_IN_HINT))
    title = status.upstream if status.enabled else f"{status.upstream} (disabled)"
    return "\n".join([title, *(f"  {name:<10}{value}" for name, value in lines)])


def _format_client(client: SeenClient, now: float) -> str:
    kind = client.originator if client.is_cli else f"other clients, as {client.originator}"
    return f"{kind} {client.version}, {format_time(client.seen_at, now)}"


def _format_expiry(expires_at: int | None, now: float) -> str:
    if not expires_at:
        return "none" if expires_at is None else "expiry unknown"
    return f"{'expires' if expires_at > now else 'expired'} {format_time(expires_at, now)}"


def _format_limit(limit: dict[str, Any], now: float) -> list[str]:
    name = limit["limit"]
    lines = [f"{name} {window}: {_format_window(limit[window], now)}" for window in quota.WINDOWS if window in limit]
    if limit.get("refused_until", 0) > now:
        lines.append(f"{name}: refused until {format_time(limit['refused_until'], now)}")
    return [*lines, f"{name}: as of {format_time(limit['fetched_at'], now)}"]


def _format_window(window: dict[str, Any], now: float) -> str:
    parts = []
    if "used_percent" in window:
        parts.append(f"{window['used_percent']:g} % used")
    if "window_minutes" in window:
        parts.append(f"of {format_duration(window['window_minutes'] * 60)}")
    if "resets_at" in window:
        parts.append(f"resets {format_time(window['resets_at'], now)}")
    return ", ".join(parts)


def format_time(at: float, now: float) -> str:
    """``at`` relative to ``now`` (both Unix seconds), such as ``in 2 h 5 min (2026-01-31 12:00 UTC)``."""
    distance = format_duration(abs(at - now))
    relative = f"in {distance}" if at > now else f"{distance} ago"
    return f"{relative} ({datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC)"


def format_duration(seconds: float) -> str:
    """The two largest units, such as ``5 d 3 h``."""
    minutes = int(seconds // 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    units = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(units[:2]) or "less than a minute"
