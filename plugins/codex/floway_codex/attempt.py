"""What the plugin keeps for one attempt (``ctx.provider_state``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from floway_codex.accounts import Account
from floway_codex.client import CodexClient
from floway_codex.identity import Identity
from floway_codex.profile import Profile
from floway_codex.turns import Owner


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
