"""What the plugin keeps for one attempt (``ctx.provider_state``)."""

from dataclasses import dataclass

from floway_codex.accounts import Account
from floway_codex.identity import CodexClient, Identity
from floway_codex.profile import Profile


@dataclass
class CodexAttempt:
    """The same for all dispatches, but for the token."""

    account: Account
    identity: Identity
    client: CodexClient | None
    """None for a client that is no codex CLI."""
    profile: Profile
    lite: bool
    """Whether the request takes the responses-lite form."""
    token: str | None = None
    """The access token of the latest dispatch."""
    renewed: bool = False
    """Whether a refused token has been replaced already; that is done once per attempt."""
