"""The state of one attempt, for all its dispatches: the identity of the request, and the form in which it is sent."""

import functools
import logging
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from floway_codex.account.accounts import Account
from floway_codex.identity import claims, resolution, snapshot, turns, windows
from floway_codex.identity.client import CodexClient, detect_client
from floway_codex.identity.posted import as_posted
from floway_codex.identity.resolution import Identity
from floway_codex.identity.turns import TurnStateOwner
from floway_codex.websocket.increments import PreparedInput
from floway_codex.wire import profile
from floway_codex.wire.encoding import choose_encoding
from floway_codex.wire.profile import Profile
from floway_core.contexts import AttemptContext, Services, SnapshotCommitContext
from floway_core.protocol.items import as_items
from floway_core.protocol.lazy_items import LazyItems

NOTHING_PREPARED = PreparedInput()
"""The input of an attempt before its first dispatch."""

log = logging.getLogger("floway.codex")


@dataclass
class CodexAttempt:
    """The state of an attempt (``ctx.provider_state``). Only the last fields change between dispatches."""

    account: Account
    identity: Identity
    client: CodexClient | None
    """None if the client is not a codex CLI."""
    profile: Profile
    model: Mapping[str, Any]
    """The catalogue entry of the model; empty when unknown."""
    lite: bool
    """Whether the request is in the responses-lite form."""
    encoding: str
    """The content encoding of the request body."""
    first_response: str | None
    """The id of the conversation's first response; None if this request begins it."""
    has_added_history: bool = False
    """Whether the gateway has added the history to the request of a codex CLI whose version has a profile."""
    seed: int = field(default_factory=functools.partial(random.getrandbits, 32))
    """The source of whatever the CLI orders at random."""
    turn_state: str | None = None
    """The first turn state that the backend sent in this turn."""
    token: str | None = None
    """The access token of the latest dispatch."""
    renewed: bool = False
    """Whether a refused token has been replaced; this happens once per attempt."""
    placeholders: Mapping[str, Any] = field(default_factory=dict)
    """The values of the profile's placeholders for the latest dispatch."""
    input: PreparedInput = NOTHING_PREPARED
    """The input of the latest dispatch."""
    transport: str = ""
    """What carried the latest dispatch: ``http`` or ``websocket``."""

    @property
    def user_agent(self) -> str:
        """The user agent of the request."""
        return self.client.user_agent if self.client else str(self.profile.static_values["user_agent"])

    @property
    def owner(self) -> TurnStateOwner:
        """The account and the turn that the turn state belongs to."""
        return TurnStateOwner(self.account.account_id, self.identity.turn)


def start_attempt(
    services: Services, ctx: AttemptContext, account: Account, model: Mapping[str, Any], default: Profile
) -> CodexAttempt:
    """Resolve the identity of a request, and choose the form in which it is sent.

    :param model: the catalogue entry of the model; empty when unknown.
    :param default: the profile for clients that are not a codex CLI.
    """
    headers, body, settings = ctx.request.headers, ctx.request.body, services.settings.plugin
    order = claims.OVER_HTTP
    if ctx.request.is_websocket_message:
        order, (headers, body) = claims.OVER_WEBSOCKET, as_posted(headers, body)
    client = detect_client(headers, body, order)
    stored = snapshot.read_identity(ctx.previous.metadata) if ctx.previous else None
    resolved = _resolve_identity(services, ctx, account, stored, claims.read_claims(headers, body, order))
    closest = profile.closest_profile(client.version, client.shape, settings["codex_profiles"]) if client else default
    attempt = CodexAttempt(
        account=account,
        identity=resolved,
        client=client,
        profile=closest,
        model=model,
        lite=model.get("use_responses_lite") is True or (client is not None and client.lite),
        encoding=choose_encoding(settings["codex_request_encoding"], settings["codex_base_url"]),
        first_response=stored.first_response if stored else None,
        has_added_history=client is not None and client.version == closest.version and ctx.continues is not None,
    )
    encrypted = (headers.get(turns.TURN_STATE), stored.turn_state if stored else None)
    attempt.turn_state = turns.decrypt_turn_state(services.secrets, encrypted, attempt.owner)
    if log.isEnabledFor(logging.DEBUG):
        log.debug("Attempt %s: %s", ctx.id, describe(attempt))
    return attempt


def _resolve_identity(
    services: Services,
    ctx: AttemptContext,
    account: Account,
    stored: snapshot.StoredIdentity | None,
    claimed: claims.ClaimedIds,
) -> Identity:
    """Resolve the identity of a request that continues ``stored``, if any."""
    body, previous = ctx.request.body, ctx.previous
    return resolution.resolve_identity(
        resolution.IdentityInputs(
            claims=claimed,
            api_key_id=ctx.request.api_key.id,
            model=ctx.model,
            instructions=body.get("instructions"),
            input=_read_items(body.get("input")),
            new_items=previous.new_items if previous else (),
            stored=stored,
            claim_ordinal=previous.ordinal if previous else lambda: 1,
            claim_window=functools.partial(windows.claim_window_number, services.database, ctx.request.api_key.id),
            installation=account.installation_id,
            now_ms=time.time_ns() // 1_000_000,
            hint=ctx.request.conversation_hint,
        )
    )


def _read_items(client_input: Any) -> Sequence[dict[str, Any]]:
    """Return the input items of a request. Invalid ones are left out. Items of a stored history are not parsed."""
    if isinstance(client_input, LazyItems):
        return client_input
    items = as_items(client_input if isinstance(client_input, str | list) else [])
    return items if {dict}.issuperset(map(type, items)) else [item for item in items if isinstance(item, dict)]


def describe(attempt: CodexAttempt) -> str:
    """The identity in one line for the log: each id and its source."""
    identity = attempt.identity
    ids = [f"{name} {getattr(identity, name)} ({rule})" for name, rule in identity.rules.items()]
    return ", ".join([*ids, f"turn state {'present' if attempt.turn_state else 'absent'}"])


def stored_identity(services: Services, commit: SnapshotCommitContext) -> snapshot.StoredIdentity:
    """The identity to store with a snapshot. After a compaction the conversation continues in a new window."""
    attempt: CodexAttempt = commit.attempt.provider_state
    identity, number, state = attempt.identity, attempt.identity.window_number, attempt.turn_state
    first_response = attempt.first_response or commit.response_id
    if commit.mode == "replace":
        number = windows.claim_window_number(
            services.database, commit.attempt.request.api_key.id, first_response, number
        )
    return snapshot.StoredIdentity(
        first_response=first_response,
        session=identity.session,
        thread=identity.thread,
        window=number,
        turn=identity.turn,
        started_ms=identity.started_ms,
        client_request=identity.client_request,
        installation=identity.installation,
        asked_in=identity.window,
        turn_state=turns.encrypt_turn_state(services.secrets, state, attempt.owner) if state else "",
        rules=identity.rules,
        profile=attempt.profile.version,
        client=attempt.client.user_agent if attempt.client else "",
        transport=attempt.transport,
    )
