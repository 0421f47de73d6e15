"""One attempt: who the request comes from and in which form it is sent, settled once and stored with the response."""

import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_codex.account.accounts import Account
from floway_codex.identity import claims, resolution, snapshot, turns, windows
from floway_codex.identity.client import CodexClient, codex_client
from floway_codex.identity.resolution import Identity
from floway_codex.identity.turns import Owner
from floway_codex.wire import profile
from floway_codex.wire.encoding import chosen
from floway_codex.wire.profile import Profile
from floway_core.contexts import AttemptContext, Services, SnapshotCommitContext
from floway_core.protocol.items import as_items

log = logging.getLogger("floway.codex")


@dataclass
class CodexAttempt:
    """The same for all dispatches, but for what the backend answered to the ones before."""

    account: Account
    identity: Identity
    client: CodexClient | None
    """None for a client that is no codex CLI."""
    profile: Profile
    model: Mapping[str, Any]
    """The catalogue entry of the model; empty when unknown."""
    lite: bool
    """Whether the request takes the responses-lite form."""
    encoding: str
    """Of the request's body."""
    first_response: str | None
    """The id of the response that the conversation began with; None when it begins now."""
    turn_state: str | None = None
    """The first turn state that the backend gave in this turn."""
    token: str | None = None
    """The access token of the latest dispatch."""
    renewed: bool = False
    """Whether a refused token has been replaced already; that is done once per attempt."""

    @property
    def owner(self) -> Owner:
        """What the turn state of this attempt is good for."""
        return Owner(self.account.account_id, self.identity.turn)


def start_attempt(
    services: Services, ctx: AttemptContext, account: Account, model: Mapping[str, Any], default: Profile
) -> CodexAttempt:
    """Settle who the request comes from, and in which form it is sent.

    :param model: the catalogue entry of the model; empty when unknown.
    :param default: the profile for clients that are no codex CLI.
    """
    headers, body, settings = ctx.request.headers, ctx.request.body, services.settings.plugin
    client = codex_client(headers)
    continued = snapshot.read(ctx.previous.metadata) if ctx.previous else None
    resolved = resolution.resolve(
        resolution.Request(
            said=claims.read(headers, body),
            api_key_id=ctx.request.api_key.id,
            instructions=body.get("instructions"),
            input=[item for item in as_items(body.get("input") or []) if isinstance(item, dict)],
            new_items=ctx.previous.new_items if ctx.previous else (),
            kept=continued,
            ordinal=ctx.previous.ordinal if ctx.previous else lambda: 1,
            new_window=functools.partial(windows.claim, services.database, ctx.request.api_key.id),
            installation=account.installation_id,
            now_ms=time.time_ns() // 1_000_000,
        )
    )
    attempt = CodexAttempt(
        account=account,
        identity=resolved,
        client=client,
        profile=profile.closest(client.version, default) if client else default,
        model=model,
        lite=model.get("use_responses_lite") is True or (client is not None and client.lite),
        encoding=chosen(settings["codex_request_encoding"], settings["codex_base_url"]),
        first_response=continued.first_response if continued else None,
    )
    sealed = (headers.get(turns.TURN_STATE), continued and continued.turn_state)
    attempt.turn_state = turns.unseal(services.secrets, sealed, attempt.owner)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("Attempt %s: %s", ctx.id, describe(attempt))
    return attempt


def describe(attempt: CodexAttempt) -> str:
    """The identity in one line: what each id is, and where it comes from."""
    found = attempt.identity
    ids = [f"{name} {getattr(found, name)} ({rule})" for name, rule in found.rules.items()]
    return ", ".join([*ids, f"turn state {'known' if attempt.turn_state else 'unknown'}"])


def stored_identity(services: Services, commit: SnapshotCommitContext) -> snapshot.Kept:
    """What to keep with a snapshot. A history that was compacted goes on in a new window."""
    attempt: CodexAttempt = commit.attempt.provider_state
    found, number, state = attempt.identity, attempt.identity.window_number, attempt.turn_state
    first_response = attempt.first_response or commit.response_id
    if commit.mode == "replace":
        number = windows.claim(services.database, commit.attempt.request.api_key.id, first_response, number)
    return snapshot.Kept(
        first_response=first_response,
        session=found.session,
        thread=found.thread,
        window=number,
        turn=found.turn,
        started_ms=found.started_ms,
        client_request=found.client_request,
        installation=found.installation,
        asked_in=found.window,
        turn_state=turns.seal(services.secrets, state, attempt.owner) if state else "",
        rules=found.rules,
    )
